"""The question answered in sentences: which of the three to use, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from triptych.records import Comparison, ItemScore
from triptych.records.schema import Strategy
from triptych.report.groups import STRATEGIES, STRATEGY_NAMES, Setting, capital
from triptych.report.numbers import difference, number, p_text, together
from triptych.report.power import would_settle
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.text.summaries import adapters_summary, demos_summary, prompts_summary, searched, size

Kind = Literal["main", "prompts", "demos", "adapters"]

HEAVY_SHARE = 0.05
MOST_SENTENCES = 4
"""More comparisons of one kind than this are summed up."""
FEW_ROWS = 50
"""Below this the answer says that they are few."""
FEWEST_ROWS = 20
"""Below this, 5 % of the rows is less than one row, and one row always carries much."""


def answer(study: Study) -> list[str]:
    """Plain sentences, the headline first; every one true for either sign and for what wasn't run."""
    best, by_label = study.best, study.by_label
    if not best:
        return ["Nothing was scored, so there is no answer yet."]
    # label -> how a sentence calls it
    described = {s.label: _description(s, study) for s in study.settings}
    made = [c for c in study.comparisons if c.a in by_label and c.b in by_label]
    kinds: dict[Kind, list[Comparison]] = {"main": [], "prompts": [], "demos": [], "adapters": []}
    for c in made:
        kinds[_kind(by_label[c.a], by_label[c.b], best)].append(c)
    count = len(study.comparisons)
    sentences = [_headline(study, made, described)]
    few = len(kinds["adapters"]) < MOST_SENTENCES
    full = [c for c in made if c in kinds["main"] or (few and c in kinds["adapters"])]
    sentences += [_sentence(c, capital(described[c.a]), described[c.b], count) for c in full]
    if len(kinds["prompts"]) <= MOST_SENTENCES:
        called = {s.label: f"the {s.prompt} prompt" for s in study.settings}
        sentences += [_sentence(c, capital(called[c.a]), called[c.b], count) for c in kinds["prompts"]]
    else:
        sentences += prompts_summary(kinds["prompts"], by_label)
    sentences += demos_summary(kinds["demos"], by_label)
    sentences += adapters_summary([] if few else kinds["adapters"], study)
    return sentences + _other_averages(best) + searched(study) + _selection(study) + _few_rows(best)


def _few_rows(best: Mapping[Strategy, Setting]) -> list[str]:
    """What few rows can't give, whatever is significant on them."""
    n = min(setting.first.aggregate.n_rows for setting in best.values())
    if n >= FEW_ROWS:
        return []
    return [
        f"{n} test {'row is' if n == 1 else 'rows are'} few: the intervals are wide, and the means are of these rows; "
        "other rows may give other ones."
    ]


def _kind(a: Setting, b: Setting, best: Mapping[Strategy, Setting]) -> Kind:
    """Which question a comparison answers; of many QLoRA settings only the best one is set against the base model."""
    within: dict[Strategy, Kind] = {"zero_shot": "prompts", "few_shot": "demos", "qlora": "adapters"}
    if a.strategy == b.strategy:
        return within[a.strategy]
    return "main" if a in best.values() and b in best.values() else "adapters"


def _description(setting: Setting, study: Study) -> str:
    which = "best " if len(study.of(setting.strategy)) > 1 and study.best[setting.strategy] is setting else ""
    if setting.strategy == "qlora":
        inside = [part] if (part := study.name(setting.label).removeprefix("QLoRA").removeprefix(", ")) else []
        inside += [f"mean of {setting.over().n} {setting.repeated}"] if setting.repeated else []
        return f"QLoRA ({', '.join(inside)})" if inside else "QLoRA"
    if setting.strategy == "zero_shot":
        return f"the {which}zero-shot prompt ({setting.prompt})"
    seeds = len(setting.cells)
    parts = [f"prompt {setting.prompt}"] if setting.prompt != "default" else []
    parts += setting.demo_words
    parts += [f"mean of {seeds} seeds" if seeds > 1 else "one seed"] if setting.seeds else []
    return f"the {which}few-shot setting ({', '.join(parts)})"


def _headline(study: Study, made: Sequence[Comparison], described: Mapping[str, str]) -> str:
    """Name the cheapest strategy that no other beats beyond chance; of a run that goes on, so far."""
    best, so_far = study.best, study.so_far
    lowest = min(best.values(), key=Setting.mean)
    name, rows = STRATEGY_NAMES[lowest.strategy], f"{lowest.first.aggregate.n_rows:,} rows"
    level = f"{number(lowest.mean())} on {rows}"
    missing = [STRATEGY_NAMES[strategy] for strategy in STRATEGIES if strategy not in best]
    not_run = f"Not run: {' and '.join(missing)}." if missing else ""
    yet = so_far.missing(best.keys()) if so_far else not_run
    if len(best) == 1:
        if so_far:
            only = f"So far, only {name} was scored (mean perplexity {level}): there is nothing to compare it with yet."
            return f"{only} {yet}".rstrip()
        return f"Only {name} was run (mean perplexity {level}), so there is nothing to compare it with."
    beats = _verdicts(best, made)
    if beats is None:
        if so_far:
            return f"So far, {name} has the lowest mean perplexity, {level}, untested. {yet}".rstrip()
        return f"{capital(name)} has the lowest mean perplexity, {level}, untested."
    use = next(s for s in best.values() if not any((other.label, s.label) in beats for other in best.values()))
    worse = [s for s in best.values() if (use.label, s.label) in beats]
    open_ = [s for s in best.values() if s not in (use, lowest) and s not in worse]
    text, when = _lead(use, lowest, rows, described, so_far=so_far is not None), " so far" if so_far else ""
    text += f" Worse beyond chance{when}: {_listed(worse, described)}." if worse else ""
    text += f" Not different from it beyond chance{when}: {_listed(open_, described)}." if open_ else ""
    return f"{text} {yet}".rstrip()


def _verdicts(best: Mapping[Strategy, Setting], made: Sequence[Comparison]) -> set[tuple[str, str]] | None:
    """(better, worse) label pairs that differ beyond chance; None if two of the best were never compared."""
    by_pair = {frozenset((c.a, c.b)): c for c in made}
    pairs = [frozenset((a.label, b.label)) for a, b in combinations(best.values(), 2)]
    if any(pair not in by_pair for pair in pairs):
        return None
    significant = [by_pair[pair] for pair in pairs if is_significant(by_pair[pair])]
    return {(c.a, c.b) if c.difference < 0 else (c.b, c.a) for c in significant}


def _lead(use: Setting, lowest: Setting, rows: str, described: Mapping[str, str], *, so_far: bool) -> str:
    # what a sentence has in brackets after the name says which setting of the strategy it is
    inside = described[use.label].partition(" (")[2].rstrip(")")
    name, level = STRATEGY_NAMES[use.strategy] + (f" ({inside})" if inside else ""), number(use.mean())
    if use is lowest:
        if so_far:  # no advice yet
            return f"So far, {name} has the lowest mean perplexity, {level} on {rows}."
        return f"Use {name}: its mean perplexity, {level} on {rows}, is the lowest."
    enough = f"{name} is enough on this evidence: it costs less, and its mean perplexity, {level},"
    enough = f"So far, {enough}" if so_far else capital(enough)
    other = f"{STRATEGY_NAMES[lowest.strategy]}'s {number(lowest.mean())}"
    return f"{enough} can't be told from the lowest, {other}, on {rows}."


def _listed(of: Sequence[Setting], described: Mapping[str, str]) -> str:
    return " and ".join(f"{described[s.label]} with {number(s.mean())}" for s in reversed(of))


def _sentence(c: Comparison, a: str, b: str, count: int) -> str:
    p = f"{p_text(c.p_holm)} after Holm correction"
    if is_significant(c):
        verb, way, rows = ("lowers", "better", c.wins) if c.difference < 0 else ("raises", "worse", c.losses)
        return f"{a} {verb} mean perplexity by {size(c)} against {b}: {p}, {way} on {rows:,} of {c.n_rows:,} rows."
    text = f"{difference(c.difference, c.ci_low, c.ci_high)}, can't be told from zero on {c.n_rows:,} rows"
    return f"{a}: the difference to {b}, {text} ({p}). {would_settle(c, count)}"


def _other_averages(best: Mapping[Strategy, Setting]) -> list[str]:
    """Whether the order of the strategies hangs on the mean of rows, the average that few rows can rule."""
    if len(best) < 2:
        return []

    def order(average: str) -> list[str]:
        return [STRATEGY_NAMES[s.strategy] for s in sorted(best.values(), key=lambda s: s.mean(average))]

    orders = {"corpus perplexity": order("ppl_corpus"), "geometric perplexity": order("ppl_geometric")}
    others = {name: names for name, names in orders.items() if names != order("ppl_mean")}
    if not others:
        return [f"The order, {' < '.join(order('ppl_mean'))}, is the same by corpus and by geometric perplexity."]
    return [f"By {name} the order is another one: {' < '.join(names)}." for name, names in others.items()]


def _selection(study: Study) -> list[str]:
    tried = {
        "zero-shot prompts": len(study.of("zero_shot")),
        # what a search found is in no summary, but to call it the best is a choice made here as well
        "few-shot settings": len(study.record.few_shot) + sum(bool(s.first.searched) for s in study.of("few_shot")),
        "QLoRA settings": len(study.of("qlora")),
    }
    several = [f"the best of {count} {name}" for name, count in tried.items() if count > 1]
    if not several:
        return []
    what = capital(" and ".join(filter(None, [", ".join(several[:-1]), several[-1]])))
    was, it = ("were", "them") if len(several) > 1 else ("was", "it")
    return [f"{what} {was} chosen on the test rows themselves, which favours {it} slightly (selection)."]


def dominated(items: Sequence[ItemScore]) -> str | None:
    """Say so when few rows rule ppl_mean: the 5 % of rows with the highest perplexity carry over half of its sum."""
    if len(items) < FEWEST_ROWS:
        return None
    heavy = math.ceil(len(items) * HEAVY_SHARE)
    ppl = np.sort([item.ppl for item in items])
    share = float(ppl[-heavy:].sum() / ppl.sum())
    if share <= 0.5:
        return None
    corpus = math.exp(sum(item.nll_nats for item in items) / sum(item.n_tokens for item in items))
    mean, by_corpus, geometric = together(float(ppl.mean()), corpus, float(np.exp(np.log(ppl).mean())))
    return (
        f"ppl_mean is ruled by few rows: {heavy} of {len(items):,} carry {share:.0%} of its sum. "
        f"ppl_mean is {mean}; ppl_corpus, {by_corpus}, and ppl_geometric, {geometric}, say more about the other rows."
    )


def row_warnings(study: Study) -> list[str]:
    """What a reader must know about the rows of the best setting of each strategy: `dominated`, dropped demos."""
    cells = [setting.first.cell for setting in study.best.values()]
    warnings = [f"{cell}: {text}" for cell in cells if (text := dominated(study.items[cell]))]
    if short := [cell for cell in study.cells if cell.rows_with_demos_dropped]:
        rows = max(cell.rows_with_demos_dropped for cell in short)
        warnings.append(
            f"In {len(short)} of {len(study.cells)} cells demonstrations did not all fit the context and some were "
            f"left out (on up to {rows:,} rows): such a cell is not quite its k. Section 5 counts them."
        )
    return warnings
