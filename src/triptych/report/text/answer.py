"""The question answered in sentences: which of the three to use, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from triptych.records import Comparison, ItemScore
from triptych.records.schema import Strategy
from triptych.report.groups import STRATEGIES, STRATEGY_NAMES, Setting
from triptych.report.numbers import difference, number, p_text, together
from triptych.report.power import would_settle
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.text.summaries import adapters_summary, demos_summary, prompts_summary, searched

Kind = Literal["main", "prompts", "demos", "adapters"]

HEAVY_SHARE = 0.05
MOST_SENTENCES = 4
"""More comparisons of one kind than this are summed up."""
FEWEST_ROWS = 20
"""Below this, 5 % of the rows is less than one row, and one row always carries much."""


def answer(study: Study) -> list[str]:
    """Plain sentences, the headline first; every one true for either sign and for what wasn't run."""
    best, by_label = study.best, study.by_label
    if not best:
        return ["Nothing was scored, so there is no answer yet."]
    described = _descriptions(study)
    known = [c for c in study.comparisons if c.a in by_label and c.b in by_label]
    kinds: dict[Kind, list[Comparison]] = {"main": [], "prompts": [], "demos": [], "adapters": []}
    for c in known:
        kinds[_kind(by_label[c.a], by_label[c.b], best)].append(c)
    count = len(study.comparisons)
    sentences = [_headline(best, known, described)]
    few = len(kinds["adapters"]) < MOST_SENTENCES
    full = [c for c in known if c in kinds["main"] or (few and c in kinds["adapters"])]
    sentences += [_sentence(c, described[c.a], described[c.b], count) for c in full]
    if len(kinds["prompts"]) <= MOST_SENTENCES:
        sentences += [_prompt_sentence(c, by_label, count) for c in kinds["prompts"]]
    else:
        sentences += prompts_summary(kinds["prompts"], by_label)
    sentences += demos_summary(kinds["demos"], by_label)
    sentences += adapters_summary([] if few else kinds["adapters"], study)
    return sentences + _other_averages(best) + searched(study) + _selection(study)


def _kind(a: Setting, b: Setting, best: Mapping[Strategy, Setting]) -> Kind:
    """Which question a comparison answers; of many QLoRA settings only the best one is set against the base model."""
    within: dict[Strategy, Kind] = {"zero_shot": "prompts", "few_shot": "demos", "qlora": "adapters"}
    if a.strategy == b.strategy:
        return within[a.strategy]
    return "main" if a in best.values() and b in best.values() else "adapters"


def _descriptions(study: Study) -> dict[str, str]:
    """Label -> how a sentence calls it, for everything that takes part in a comparison."""
    texts = {}
    for setting in study.settings:
        several = len(study.of(setting.strategy)) > 1
        which = "best" if several and study.best[setting.strategy] is setting else ""
        texts[setting.label] = _description(setting, which, study.name(setting.label))
    return texts


def _description(setting: Setting, which: str, short: str) -> str:
    if setting.strategy == "qlora":
        inside = [part] if (part := short.removeprefix("QLoRA").removeprefix(", ")) else []
        inside += [f"mean of {setting.over().n} {setting.repeated}"] if setting.repeated else []
        return f"QLoRA ({', '.join(inside)})" if inside else "QLoRA"
    if setting.strategy == "zero_shot":
        return f"the {which} zero-shot prompt ({setting.prompt})".replace("  ", " ")
    seeds = len(setting.cells)
    parts = [f"k={setting.k}", *setting.demo_words]
    parts += [f"mean of {seeds} seeds" if seeds > 1 else "one seed"] if setting.seeds else []
    if setting.prompt != "default":
        parts.insert(0, f"prompt {setting.prompt}")
    return f"the {which} few-shot setting ({', '.join(parts)})".replace("  ", " ")


def _headline(best: Mapping[Strategy, Setting], known: Sequence[Comparison], described: Mapping[str, str]) -> str:
    """Name the cheapest strategy that no other beats beyond chance."""
    lowest = min(best.values(), key=Setting.mean)
    rows = f"{lowest.cells[0].aggregate.n_rows:,} rows"
    if len(best) == 1:
        level = f"mean perplexity {number(lowest.mean())} on {rows}"
        return f"Only {STRATEGY_NAMES[lowest.strategy]} was run ({level}), so there is nothing to compare it with."
    beats = _verdicts(best, known)
    if beats is None:
        level = f"{number(lowest.mean())} on {rows}"
        return f"{_capital(STRATEGY_NAMES[lowest.strategy])} has the lowest mean perplexity, {level}, untested."
    labels = {setting.label for setting in best.values()}
    use = next(s for s in best.values() if not any((other, s.label) in beats for other in labels))
    worse = [s for s in best.values() if (use.label, s.label) in beats]
    open_ = [s for s in best.values() if s not in (use, lowest) and s not in worse]
    text = _lead(use, lowest, rows, described)
    text += f" Worse beyond chance: {_listed(worse, described)}." if worse else ""
    text += f" Not told apart from it: {_listed(open_, described)}." if open_ else ""
    return text + _not_run(best)


def _verdicts(best: Mapping[Strategy, Setting], known: Sequence[Comparison]) -> set[tuple[str, str]] | None:
    """(better, worse) label pairs that differ beyond chance; None if two of the best were never compared."""
    found = {frozenset((c.a, c.b)): c for c in known}
    pairs = [frozenset((a.label, b.label)) for a, b in combinations(best.values(), 2)]
    if any(pair not in found for pair in pairs):
        return None
    told = [found[pair] for pair in pairs if is_significant(found[pair])]
    return {(c.a, c.b) if c.difference < 0 else (c.b, c.a) for c in told}


def _lead(use: Setting, lowest: Setting, rows: str, described: Mapping[str, str]) -> str:
    # what a sentence has in brackets after the name says which setting of the strategy it is
    inside = described[use.label].partition(" (")[2].rstrip(")")
    name = STRATEGY_NAMES[use.strategy] + (f" ({inside})" if inside else "")
    level = number(use.mean())
    if use is lowest:
        return f"Use {name}: its mean perplexity, {level} on {rows}, is the lowest."
    other = f"{STRATEGY_NAMES[lowest.strategy]}'s {number(lowest.mean())}"
    return (
        f"{_capital(name)} is enough on this evidence: it costs less, and its mean perplexity, {level}, "
        f"can't be told from the lowest, {other}, on {rows}."
    )


def _listed(of: Sequence[Setting], described: Mapping[str, str]) -> str:
    return " and ".join(f"{described[s.label]} with {number(s.mean())}" for s in reversed(of))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _not_run(best: Mapping[Strategy, Setting]) -> str:
    missing = [STRATEGY_NAMES[strategy] for strategy in STRATEGIES if strategy not in best]
    return f" Not run: {' and '.join(missing)}." if missing else ""


def _sentence(c: Comparison, a: str, b: str, count: int) -> str:
    subject = _capital(a)
    if not is_significant(c):
        return f"{subject}: the difference to {b}, {_undecided(c, count)}"
    return f"{subject} {_decided(c, b)}"


def _decided(c: Comparison, b: str) -> str:
    low, high = sorted((abs(c.ci_low), abs(c.ci_high)))
    verb, way, rows = ("lowers", "better", c.wins) if c.difference < 0 else ("raises", "worse", c.losses)
    return (
        f"{verb} mean perplexity by {difference(abs(c.difference), low, high)} against {b}: "
        f"{p_text(c.p_holm)} after Holm correction, {way} on {rows:,} of {c.n_rows:,} rows."
    )


def _undecided(c: Comparison, count: int) -> str:
    text = f"{difference(c.difference, c.ci_low, c.ci_high)}, can't be told from zero on {c.n_rows:,} rows"
    return f"{text} ({p_text(c.p_holm)} after Holm correction). {would_settle(c, count)}"


def _prompt_sentence(c: Comparison, by_label: Mapping[str, Setting], count: int) -> str:
    a, b = by_label[c.a].prompt, by_label[c.b].prompt
    if is_significant(c):
        return f"The {a} prompt {_decided(c, f'the {b} prompt')}"
    return f"The {a} prompt's difference to the {b} prompt, {_undecided(c, count)}"


def _other_averages(best: Mapping[Strategy, Setting]) -> list[str]:
    """Whether the order of the strategies hangs on the mean of rows, the average that few rows can rule."""
    if len(best) < 2:
        return []

    def order(average: str) -> list[str]:
        return [STRATEGY_NAMES[s.strategy] for s in sorted(best.values(), key=lambda s: s.mean(average))]

    others = {"corpus perplexity": order("ppl_corpus"), "geometric perplexity": order("ppl_geometric")}
    odd = {name: found for name, found in others.items() if found != order("ppl_mean")}
    if not odd:
        return [f"The order, {' < '.join(order('ppl_mean'))}, is the same by corpus and by geometric perplexity."]
    return [f"By {name} the order is another one: {' < '.join(found)}." for name, found in odd.items()]


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
    what = " and ".join([*([", ".join(several[:-1])] if several[1:] else []), several[-1]])
    was, it = ("were", "them") if len(several) > 1 else ("was", "it")
    return [f"T{what[1:]} {was} chosen on the test rows themselves, which favours {it} slightly (selection)."]


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
    found = []
    for setting in study.best.values():
        cell = setting.first.cell
        if text := dominated(study.items[cell]):
            found.append(f"{cell}: {text}")
    if short := [cell for cell in study.cells if cell.rows_with_demos_dropped]:
        rows = max(cell.rows_with_demos_dropped for cell in short)
        found.append(
            f"In {len(short)} of {len(study.cells)} cells demonstrations did not all fit the context and some were "
            f"left out (on up to {rows:,} rows): such a cell is not quite its k. Section 5 counts them."
        )
    return found
