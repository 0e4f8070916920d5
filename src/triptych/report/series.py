"""The series of a report's charts, computed once: matplotlib draws them in `figures/`, scripts in report.html.

A series says what is drawn, under which name and in which order; the drawing code decides how it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych.records import Averaged, FewShotSummary
from triptych.records.schema import Strategy
from triptych.report.groups import Setting, select_and_order
from triptych.report.measures import PERPLEXITY, measured
from triptych.report.numbers import Interval, difference, number, p_text, spread
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.tables.cells import over_seeds
from triptych.report.tables.table import estimate


@dataclass(frozen=True, slots=True)
class Series:
    """A line, a band, a level or a set of points."""

    role: str
    """What it is, which decides its look: `test`, `dev`, `band`, `level`, `seeds`, …"""
    name: str
    """In the legend; an empty one is not there."""
    x: tuple[float, ...]
    """Empty for a level, which goes all the way across."""
    y: tuple[float, ...]
    bounds: tuple[Interval, ...] = ()
    """Of each point; empty where there are none."""
    strategy: Strategy | None = None
    place: int = 0
    """Among the series that differ by line, marker and colour."""
    texts: tuple[str, ...] = ()
    """Of each point, shown beside it or on hovering."""
    shares: tuple[float, ...] = ()
    """Of the rows that each point stands for, where points are of parts of them."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Series on common axes."""

    x: str
    y: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    """Places on the axis of counts or names, and their labels."""
    log_allowed: bool = True
    """Whether its values are ratios, as perplexities are; a share may be 0."""

    @property
    def levels(self) -> list[float]:
        """Every value on the y axis, by which its scale is chosen: a level's interval has no say."""
        band = [bound for s in self.series if s.role == "band" for bounds in s.bounds for bound in bounds]
        return [*(y for s in self.series for y in s.y), *band]

    @property
    def log(self) -> bool:
        """Whether the values span so much that the y axis should be logarithmic."""
        positive = [value for value in self.levels if value > 0]
        return self.log_allowed and bool(positive) and max(positive) > 10 * min(positive)


def level_of(study: Study, setting: Setting, before: str = "") -> Series:
    """A setting's mean as a line across, with its interval where it is known."""
    name, level, bounds = study.name(setting.label), study.mean(setting), study.intervals.get(setting.label)
    name = f"{before}{name[0].lower()}{name[1:]}" if before else name
    return Series("level", f"{name}: {number(level)}", (), (level,), (bounds,) if bounds else (), setting.strategy)


def by_k_chart(study: Study) -> Chart | None:
    """The deciding metric against the number of demonstrations: every seed a point, mean and n-1 std over seeds."""
    lines: dict[tuple[str | None, ...], dict[int, tuple[FewShotSummary, Averaged]]] = {}
    for s in study.record.few_shot:
        if over := over_seeds(s, study, study.average):
            lines.setdefault((s.prompt, s.select, s.order, s.draw), {})[s.k] = (s, over)
    if not lines:
        return None
    known = {cell.cell: measured(cell.aggregate, study.average) for cell in study.cells}
    levels = {cell: level for cell, level in known.items() if level is not None}
    series: list[Series] = []
    for place, by_k in enumerate(lines.values()):
        summaries = [summary for summary, _ in by_k.values()]
        name = _line_name(summaries[0], study.record.few_shot)
        series += [*_seeds(summaries, levels, place), _over_k(name, list(by_k.values()), place)]
    series += _zero_shot(study)
    series += [level_of(study, study.best["qlora"])] if "qlora" in study.best else []
    ks = sorted({k for by_k in lines.values() for k in by_k} | {0})
    ticks = tuple((k, str(k)) for k in ks)
    return Chart("demonstrations in the prompt (k)", _of_rows(study), tuple(series), ticks, study.metric == PERPLEXITY)


def _of_rows(study: Study) -> str:
    return f"{study.metric.label} of the test rows"


def _line_name(line: FewShotSummary, every: Sequence[FewShotSummary]) -> str:
    parts = [line.prompt] if len({other.prompt for other in every}) > 1 else []
    parts += select_and_order(line.select, line.order, [(other.select, other.order) for other in every])
    parts += [{"item": "drawn for each row", "seed": "one draw a seed"}[line.draw]] if line.draw else []
    return ", ".join(["few-shot", *parts])


def _seeds(summaries: Sequence[FewShotSummary], levels: dict[str, float], place: int) -> list[Series]:
    points = [
        (s.k, levels[cell], f"k = {s.k}, seed {seed}: {number(levels[cell])}")
        for s in summaries
        for seed, cell in zip(s.seeds, s.cells, strict=False)
        if cell in levels
    ]
    if not points:
        return []
    ks, ppl, texts = zip(*points, strict=True)
    return [Series("seeds", "", ks, ppl, strategy="few_shot", place=place, texts=texts)]


def _over_k(name: str, points: Sequence[tuple[FewShotSummary, Averaged]], place: int) -> Series:
    means, stds = [over.mean for _, over in points], [over.std or 0.0 for _, over in points]
    most = max(len(summary.seeds) for summary, _ in points)
    label = f"{name} (mean ± std n-1, {most} seeds)" if most > 1 else f"{name} (one seed)" if most else name
    bounds = tuple(Interval(mean - std, mean + std) for mean, std in zip(means, stds, strict=True))
    bounds = bounds if any(stds) else ()
    texts = tuple(f"k = {s.k}: {spread(over)}" for s, over in points)
    return Series("few_shot", label, tuple(s.k for s, _ in points), tuple(means), bounds, "few_shot", place, texts)


def _zero_shot(study: Study) -> list[Series]:
    settings = [setting for setting in study.of("zero_shot") if setting.has(study.average)]
    if not settings:
        return []
    best, levels = study.best["zero_shot"], tuple(map(study.mean, settings))
    name = (
        f"zero-shot prompts ({study.superlative}: {best.prompt})" if len(settings) > 1 else f"zero-shot, {best.prompt}"
    )
    texts = tuple(f"{study.name(s.label)}: {number(study.mean(s))}" for s in settings)
    points = Series("zero_shot", name, (0,) * len(settings), levels, strategy="zero_shot", texts=texts)
    return [points, Series("level", "", (), (study.mean(best),), strategy="zero_shot")]


def best_chart(study: Study) -> Chart | None:
    """The best of each strategy with the interval of its own mean."""
    best = [setting for setting in study.best.values() if setting.label in study.intervals]
    if len(best) < 2:
        return None
    series, ticks = [], []
    for place, setting in enumerate(best):
        bounds, mean = study.intervals[setting.label], study.mean(setting)
        text = difference(mean, *bounds)
        series.append(Series("best", "", (mean,), (place,), (bounds,), setting.strategy, texts=(text,)))
        repeated = f"\n(mean of {setting.over().n} {setting.repeated})" if setting.repeated else ""
        ticks.append((place, study.name(setting.label) + repeated))
    x = f"{_of_rows(study)}, 95 % interval over rows"
    return Chart(x, "", tuple(series), tuple(ticks), study.metric == PERPLEXITY)


def differences_chart(study: Study) -> Chart | None:
    """The paired differences, each with its interval and its corrected p-value; the first of them highest."""
    made = list(enumerate(reversed(study.comparisons)))
    if not made:
        return None
    kinds = (("significant", "differ beyond chance", True), ("open", "can't be told from zero", False))
    series = tuple(
        Series(
            role,
            name,
            tuple(c.difference for _, c in chosen),
            tuple(place for place, _ in chosen),
            tuple(Interval(c.ci_low, c.ci_high) for _, c in chosen),
            texts=tuple(f"{difference(*estimate(c))},  {p_text(c.p_holm)}" for _, c in chosen),
        )
        for role, name, significant in kinds
        if (chosen := [(place, c) for place, c in made if is_significant(c) == significant])
    )
    ticks = tuple((place, f"{study.name(c.a)}\n−  {study.name(c.b)}") for place, c in made)
    return Chart(f"difference of {study.metric.label}", "", series, ticks)
