"""How the crossover is shown: a chart over labelled rows, two tables, and the sentence that answers the question."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log2

from triptych.records.schema import Crossing, Crossover, CurveAt, Strategy
from triptych.report.crossover import UNDECIDED
from triptych.report.groups import STRATEGIES, capital
from triptych.report.measures import PERPLEXITY
from triptych.report.numbers import Interval, difference, number
from triptych.report.series import Chart, Series
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

_NAMES: dict[str, str] = {"zero_shot": "the prompt alone", "qlora": "QLoRA"}


def crossover_of(study: Study) -> Crossover | None:
    """The crossover by the deciding metric."""
    return next((one for one in study.whole.crossover if one.metric == study.metric.name), None)


def crossover_chart(study: Study) -> Chart | None:
    """Each strategy's curve over labelled rows, on a logarithmic axis; the prompt alone is a level."""
    found = crossover_of(study)
    if found is None:
        return None
    series: list[Series] = []
    ways = 0
    for name, points in found.curves.items():
        strategy = _strategy(name)
        bounds = tuple(Interval(point.ci_low, point.ci_high) for point in points)
        x, y = tuple(log2(point.budget) for point in points), tuple(point.mean for point in points)
        if strategy == "zero_shot":
            series.append(Series("level", f"{_called(name)}: {number(y[0])}", (), y[:1], bounds[:1], strategy))
            continue
        texts = tuple(f"{_called(name)}, {p.budget:,} rows: {_value(p)}" for p in points)
        if strategy == "qlora":
            series.append(Series("band", "", x, (), bounds, strategy))
            series.append(Series("test", _called(name), x, y, strategy=strategy, texts=texts))
        else:
            series.append(Series("few_shot", _called(name), x, y, bounds, strategy, ways, texts))
            ways += 1
    ticks = tuple((log2(budget), f"{budget:,}") for budget in found.budgets)
    y_name = f"{study.metric.label} of the test rows"
    return Chart("labelled rows (log scale)", y_name, tuple(series), ticks, study.metric == PERPLEXITY)


def crossover_tables(study: Study) -> dict[str, Table]:
    """The curves, and where they cross; none without budgets."""
    found = crossover_of(study)
    if found is None:
        return {}
    curves = Table(
        "By labelled rows",
        ("strategy", *(f"{budget:,}" for budget in found.budgets)),
        tuple((_called(name), *_line(points, found.budgets)) for name, points in found.curves.items()),
        f"{capital(study.metric.label)}, with 95 % intervals that hold the chance of the test rows and of which rows "
        "were labelled. Each column is a number of labelled rows.",
    )
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (_called(c.a), _called(c.b), _rows(c.budget), _between(c, found.budgets), c.said or "") for c in found.crossings
    )
    columns = ("better with fewer rows", "better with more", "they cross at", "95 % interval", "")
    note = "Linear between budgets in the logarithm of the rows; the interval is where the two can't be told apart."
    return {"crossover": curves, "crossings": Table("Where strategies cross", columns, rows, note)}


def crossover_answer(study: Study) -> list[str]:
    """With how many labelled rows which strategy; nothing without budgets."""
    found = crossover_of(study)
    if found is None or len(found.budgets) < 2:
        return []
    best = [_best(found, budget, higher=study.metric.higher_is_better) for budget in found.budgets]
    first, last = best[0], best[-1]
    lowest, highest = f"{found.budgets[0]:,}", f"{found.budgets[-1]:,}"
    if set(best) == {first}:
        return [f"From {lowest} to {highest} labelled rows the best is to {_advice(first)}{_unsure(found, first)}."]
    ways = list(dict.fromkeys(best))
    met = [_met(found, a, b) for a, b in pairwise(ways)]
    at = [crossing.budget for crossing in met if crossing and crossing.budget is not None]
    if len(at) < len(met) or at != sorted(at) or ways[-1] != last:  # only the ends are worth a sentence
        ways, met = [first, last], [_met(found, first, last)] if first != last else []
    if any(crossing is None or crossing.budget is None for crossing in met) or not met:
        others = " or to ".join(map(_advice, dict.fromkeys(best)))
        return [f"From {lowest} to {highest} labelled rows it {UNDECIDED} whether to {others}."]
    until = [
        (_rows(c.budget), _between(c, found.budgets), _advice(way)) for c, way in zip(met, ways, strict=False) if c
    ]
    beginnings = ["With fewer than about {} labelled rows {} {}", *["up to about {} {} {}"] * (len(until) - 1)]
    parts = [words.format(*values) for words, values in zip(beginnings, until, strict=True)]
    return ["; ".join([*parts, f"with more, {_advice(ways[-1])}"]) + "."]


def _met(found: Crossover, a: str, b: str) -> Crossing | None:
    return next((c for c in found.crossings if {c.a, c.b} == {a, b}), None)


def _best(found: Crossover, budget: int, *, higher: bool) -> str:
    """The curve that is the best at a budget; of equals the cheaper one."""
    levels = {name: p.mean for name, points in found.curves.items() for p in points if p.budget == budget}
    return (max if higher else min)(levels, key=lambda name: levels[name])


def _unsure(found: Crossover, best: str) -> str:
    """The strategies that can't be told from the best one at any budget."""
    undecided = [c for c in found.crossings if best in (c.a, c.b) and (c.said or "").startswith(UNDECIDED)]
    names = [_called(c.b if c.a == best else c.a) for c in undecided]
    return f", though it {UNDECIDED} from {' or '.join(names)}" if names else ""


def _strategy(name: str) -> Strategy:
    return next(strategy for strategy in STRATEGIES if name.split("/", maxsplit=1)[0] == strategy)


def _called(name: str) -> str:
    """A curve's name for people."""
    first, *rest = name.split("/")
    if first != "few_shot":
        return ", ".join([_NAMES[first], *rest])
    return ", ".join(["few-shot", *rest])


def _advice(name: str) -> str:
    """What to do, after `to`."""
    first, *rest = name.split("/")
    if first == "zero_shot":
        return "use the prompt alone"
    if first == "qlora":
        return "fine-tune"
    select, k = rest[0], rest[1].removeprefix("k=")
    what = {"random": "random", "bm25": "retrieved", "embedding": "retrieved", "mmr": "retrieved"}.get(select, select)
    return f"show {k} {what} demonstration{'s' if k != '1' else ''}"


def _value(point: CurveAt) -> str:
    return difference(point.mean, point.ci_low, point.ci_high)


def _line(points: Sequence[CurveAt], budgets: Sequence[int]) -> list[Value]:
    by_budget = {point.budget: _value(point) for point in points}
    return [by_budget.get(budget) for budget in budgets]


def _rows(budget: float | None) -> str:
    """Two figures: the third says nothing."""
    return "" if budget is None else f"{float(f'{budget:.2g}'):,.0f}"


def _between(c: Crossing, budgets: Sequence[int]) -> str:
    if c.ci_low is None and c.ci_high is None:
        return ""
    low = f"fewer than {budgets[0]:,}" if c.ci_low is None else _rows(c.ci_low)
    high = f"more than {budgets[-1]:,}" if c.ci_high is None else _rows(c.ci_high)
    return f"[{low}, {high}]"
