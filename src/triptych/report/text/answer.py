"""The question answered in sentences: which of the three to use, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

from triptych.records import Comparison
from triptych.records.schema import Strategy
from triptych.report.crossover_shown import crossover_answer
from triptych.report.groups import STRATEGIES, STRATEGY_NAMES, Setting, capital
from triptych.report.measures import PERPLEXITY, metric_of_key
from triptych.report.numbers import difference, number, p_text
from triptych.report.power import would_settle
from triptych.report.statistics import a_is_better, is_significant
from triptych.report.study import Study
from triptych.report.text.disagreement import disagreements, no_better_than_guessing
from triptych.report.text.summaries import adapters_summary, demos_summary, prompts_summary, searched, size

Kind = Literal["main", "prompts", "demos", "adapters"]

MOST_SENTENCES = 4
"""More comparisons of one kind than this are summed up."""
FEW_ROWS = 50
"""Below this the answer says that they are few."""


def answer(study: Study) -> list[str]:
    """Plain sentences, the headline first; every one true for either sign and for what wasn't run.

    Where two metrics order the strategies differently, that is the first of all.
    """
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
    sentences = [*disagreements(study), *crossover_answer(study), _headline(study, made, described)]
    sentences += no_better_than_guessing(study, _recommended(study, made))
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
    return sentences + _other_averages(study) + searched(study) + _selection(study) + _few_rows(best)


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
    top, metric, superlative = study.ranked[0], study.metric.label, study.superlative
    name, rows = STRATEGY_NAMES[top.strategy], _rows(study, top)
    level = f"{number(study.mean(top))} on {rows}"
    not_run = _not_run(study)
    yet = so_far.missing(best.keys()) if so_far else not_run
    if len(best) == 1:
        if so_far:
            only = f"So far, only {name} was scored ({metric} {level}): there is nothing to compare it with yet."
            return f"{only} {yet}".rstrip()
        return f"Only {name} was run ({metric} {level}), so there is nothing to compare it with."
    beats = _verdicts(best, made)
    if beats is None:
        if so_far:
            return f"So far, {name} has the {superlative} {metric}, {level}, untested. {yet}".rstrip()
        return f"{capital(name)} has the {superlative} {metric}, {level}, untested."
    use = _recommended(study, made)
    worse = [s for s in best.values() if (use.label, s.label) in beats]
    open_ = [s for s in best.values() if s not in (use, top) and s not in worse]
    text, when = _lead(study, use, top, rows, described), " so far" if so_far else ""
    text += f" Worse beyond chance{when}: {_listed(study, worse, described)}." if worse else ""
    text += f" Not different from it beyond chance{when}: {_listed(study, open_, described)}." if open_ else ""
    return f"{text} {yet}".rstrip()


def _recommended(study: Study, made: Sequence[Comparison]) -> Setting:
    """The cheapest that no other beats beyond chance; the best one, where nothing was compared."""
    best, beats = study.best.values(), _verdicts(study.best, made)
    if beats is None:
        return study.ranked[0]
    return next(s for s in best if not any((other.label, s.label) in beats for other in best))


def _verdicts(best: Mapping[Strategy, Setting], made: Sequence[Comparison]) -> set[tuple[str, str]] | None:
    """(better, worse) label pairs that differ beyond chance; None if two of the best were never compared."""
    by_pair = {frozenset((c.a, c.b)): c for c in made}
    pairs = [frozenset((a.label, b.label)) for a, b in combinations(best.values(), 2)]
    if any(pair not in by_pair for pair in pairs):
        return None
    significant = [by_pair[pair] for pair in pairs if is_significant(by_pair[pair])]
    return {(c.a, c.b) if a_is_better(c) else (c.b, c.a) for c in significant}


def _rows(study: Study, setting: Setting) -> str:
    """`250 rows`; of a share of one cell `160 rows (146 right)`."""
    aggregate = setting.first.aggregate
    value = aggregate.metrics.get(study.average)
    if value is None:
        return f"{aggregate.n_rows:,} rows"
    right = f" ({round(value.value * value.n):,} right)" if study.metric.zero_or_one and len(setting.cells) == 1 else ""
    return f"{value.n:,} rows{right}"


def _not_run(study: Study) -> str:
    """`Not run: few-shot.`, and strategies that were run and lack the metric."""
    run = {setting.strategy for setting in study.settings}
    without = [STRATEGY_NAMES[strategy] for strategy in STRATEGIES if strategy in run and strategy not in study.best]
    missing = [STRATEGY_NAMES[strategy] for strategy in STRATEGIES if strategy not in run]
    parts = [f"Not run: {' and '.join(missing)}."] if missing else []
    parts += [f"Without {study.metric.label}: {' and '.join(without)}."] if without else []
    return " ".join(parts)


def _lead(study: Study, use: Setting, top: Setting, rows: str, described: Mapping[str, str]) -> str:
    # what a sentence has in brackets after the name says which setting of the strategy it is
    inside = described[use.label].partition(" (")[2].rstrip(")")
    name, level = STRATEGY_NAMES[use.strategy] + (f" ({inside})" if inside else ""), number(study.mean(use))
    metric, superlative = study.metric.label, study.superlative
    if use is top:
        if study.so_far:  # no advice yet
            return f"So far, {name} has the {superlative} {metric}, {level} on {rows}."
        return f"Use {name}: its {metric}, {level} on {rows}, is the {superlative}."
    enough = f"{name} is enough on this evidence: it costs less, and its {metric}, {level},"
    enough = f"So far, {enough}" if study.so_far else capital(enough)
    other = f"{STRATEGY_NAMES[top.strategy]}'s {number(study.mean(top))}"
    return f"{enough} can't be told from the {superlative}, {other}, on {rows}."


def _listed(study: Study, of: Sequence[Setting], described: Mapping[str, str]) -> str:
    return " and ".join(f"{described[s.label]} with {number(study.mean(s))}" for s in reversed(of))


def _sentence(c: Comparison, a: str, b: str, count: int) -> str:
    p = f"{p_text(c.p_holm)} after Holm correction"
    if is_significant(c):
        verb = "lowers" if c.difference < 0 else "raises"
        way, rows = ("better", c.wins) if a_is_better(c) else ("worse", c.losses)
        metric = metric_of_key(c.metric).label
        return f"{a} {verb} {metric} by {size(c)} against {b}: {p}, {way} on {rows:,} of {c.n_rows:,} rows."
    text = f"{difference(c.difference, c.ci_low, c.ci_high)}, can't be told from zero on {c.n_rows:,} rows"
    return f"{a}: the difference to {b}, {text} ({p}). {would_settle(c, count)}"


def _other_averages(study: Study) -> list[str]:
    """Whether the order of the strategies hangs on the mean of rows, the average that few rows can rule."""
    best = study.best
    if len(best) < 2 or study.metric != PERPLEXITY:
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
