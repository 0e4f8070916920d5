"""The series of a report's charts, computed once: matplotlib draws them in `figures/`, scripts in report.html.

A series says what is drawn, under which name and in which order; the drawing code decides how it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from triptych.records import CurvePoint, FewShotSummary
from triptych.records.schema import Strategy
from triptych.report.groups import Setting, select_and_order
from triptych.report.numbers import Interval, difference, number, p_text, spread
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.tables.table import estimate

PPL = "mean perplexity of the test rows"
SELECTED = {"last": "last step", "dev": "best on dev", "test": "best on test"}


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


@dataclass(frozen=True, slots=True)
class Chart:
    """Series on common axes."""

    x: str
    y: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    """Places on the axis of counts or names, and their labels."""

    @property
    def levels(self) -> list[float]:
        """Every value on the y axis, by which its scale is chosen: a level's interval has no say."""
        band = [bound for s in self.series if s.role == "band" for bounds in s.bounds for bound in bounds]
        return [*(y for s in self.series for y in s.y), *band]

    @property
    def log(self) -> bool:
        """Whether the values span so much that the y axis should be logarithmic."""
        positive = [value for value in self.levels if value > 0]
        return bool(positive) and max(positive) > 10 * min(positive)


def curve_chart(study: Study) -> Chart | None:
    """Perplexity against optimizer steps, with the levels training has to beat."""
    record = study.record
    if not record.curve:
        return None
    by_split = {split: [p for p in record.curve if p.split == split] for split in ("test", "dev")}
    first = (record.tune and record.further_curves and record.tune.name) or "QLoRA"
    series = [
        *_band(by_split["test"]),
        *(
            _line("further", name, chosen, place)
            for place, (name, points) in enumerate(record.further_curves.items())
            if (chosen := [p for p in points if p.split == "test"])
        ),
        *(_line(split, f"{first}, {split} rows", points) for split, points in by_split.items() if points),
        *(_level(study, setting, "best ") for strategy, setting in study.best.items() if strategy != "qlora"),
        *_used(study),
    ]
    return Chart("optimizer steps", "mean perplexity of the rows", tuple(series))


def _line(role: str, name: str, points: Sequence[CurvePoint], place: int = 0) -> Series:
    levels = tuple(p.aggregate.ppl_mean for p in points)
    texts = tuple(
        f"step {p.step:,}, epoch {number(p.epoch)}\nperplexity {number(p.aggregate.ppl_mean)}" for p in points
    )
    return Series(role, name, tuple(p.step for p in points), levels, strategy="qlora", place=place, texts=texts)


def _bounds(p: CurvePoint) -> Interval | None:
    return None if p.ci_low is None or p.ci_high is None else Interval(p.ci_low, p.ci_high)


def _band(points: Sequence[CurvePoint]) -> list[Series]:
    """The interval of each point's mean; runs of older versions have none."""
    bounds = {p.step: interval for p in points if (interval := _bounds(p))}
    if len(bounds) < 2:
        return []
    line = _line("band", "95 % interval over the test rows", [p for p in points if p.step in bounds])
    return [replace(line, bounds=tuple(bounds.values()), texts=())]


def _level(study: Study, setting: Setting, before: str = "") -> Series:
    """A setting's mean as a line across, with its interval where it is known."""
    name, level, bounds = study.name(setting.label), setting.mean(), study.intervals.get(setting.label)
    name = f"{before}{name[0].lower()}{name[1:]}" if before else name
    return Series("level", f"{name}: {number(level)}", (), (level,), (bounds,) if bounds else (), setting.strategy)


def _used(study: Study) -> list[Series]:
    """The evaluation of the checkpoint that was kept."""
    tune = study.record.tune
    point = next((p for p in study.record.curve if tune and p.step == tune.selected_step and p.split == "test"), None)
    if tune is None or point is None:
        return []
    # runs of older versions kept no interval of the point; where one cell was scored, it is the cell's
    tuned = [cell for setting in study.of("qlora") for cell in setting.cells]
    bounds = _bounds(point) or (study.intervals.get(tuned[0].cell) if len(tuned) == 1 else None)
    name = f"used ({SELECTED[tune.selected_by]}): {number(point.aggregate.ppl_mean)}"
    return [Series("used", name, (point.step,), (point.aggregate.ppl_mean,), (bounds,) if bounds else ())]


def loss_chart(study: Study) -> Chart | None:
    """Training loss against optimizer steps."""
    losses = {p.step: p.train_loss for p in study.record.curve if p.train_loss is not None}
    if len(losses) < 2:
        return None
    texts = tuple(f"step {step:,}\n{loss:.3f} nats per token" for step, loss in losses.items())
    line = Series("loss", "", tuple(losses), tuple(losses.values()), texts=texts)
    return Chart("optimizer steps", "nats per scored token", (line,))


def by_k_chart(study: Study) -> Chart | None:
    """Perplexity against the number of demonstrations: every seed a point, mean and n-1 std over seeds."""
    if not study.record.few_shot:
        return None
    lines: dict[tuple[str | None, ...], list[FewShotSummary]] = {}
    for s in study.record.few_shot:
        lines.setdefault((s.prompt, s.select, s.order, s.draw), []).append(s)
    levels = {cell.cell: cell.aggregate.ppl_mean for cell in study.cells}
    series: list[Series] = []
    for place, summaries in enumerate(lines.values()):
        name = _line_name(summaries[0], study.record.few_shot)
        series += [*_seeds(summaries, levels, place), _over_k(name, summaries, place)]
    series += _zero_shot(study)
    series += [_level(study, study.best["qlora"])] if "qlora" in study.best else []
    ks = sorted({summary.k for summary in study.record.few_shot} | {0})
    return Chart("demonstrations in the prompt (k)", PPL, tuple(series), tuple((k, str(k)) for k in ks))


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


def _over_k(name: str, summaries: Sequence[FewShotSummary], place: int) -> Series:
    means, stds = [s.ppl_mean.mean for s in summaries], [s.ppl_mean.std or 0.0 for s in summaries]
    most = max(len(summary.seeds) for summary in summaries)
    label = f"{name} (mean ± std n-1, {most} seeds)" if most > 1 else f"{name} (one seed)" if most else name
    bounds = tuple(Interval(mean - std, mean + std) for mean, std in zip(means, stds, strict=True))
    bounds = bounds if any(stds) else ()
    texts = tuple(f"k = {s.k}: {spread(s.ppl_mean)}" for s in summaries)
    return Series("few_shot", label, tuple(s.k for s in summaries), tuple(means), bounds, "few_shot", place, texts)


def _zero_shot(study: Study) -> list[Series]:
    settings = study.of("zero_shot")
    if not settings:
        return []
    best, levels = study.best["zero_shot"], tuple(setting.mean() for setting in settings)
    name = f"zero-shot prompts (lowest: {best.prompt})" if len(settings) > 1 else f"zero-shot, {best.prompt}"
    texts = tuple(f"{study.name(s.label)}: {number(s.mean())}" for s in settings)
    points = Series("zero_shot", name, (0,) * len(settings), levels, strategy="zero_shot", texts=texts)
    return [points, Series("level", "", (), (best.mean(),), strategy="zero_shot")]


def best_chart(study: Study) -> Chart | None:
    """The best of each strategy with the interval of its own mean."""
    best = [setting for setting in study.best.values() if setting.label in study.intervals]
    if len(best) < 2:
        return None
    series, ticks = [], []
    for place, setting in enumerate(best):
        bounds, mean = study.intervals[setting.label], setting.mean()
        text = difference(mean, *bounds)
        series.append(Series("best", "", (mean,), (place,), (bounds,), setting.strategy, texts=(text,)))
        repeated = f"\n(mean of {setting.over().n} {setting.repeated})" if setting.repeated else ""
        ticks.append((place, study.name(setting.label) + repeated))
    return Chart(f"{PPL}, 95 % interval over rows", "", tuple(series), tuple(ticks))


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
    return Chart("difference of mean perplexity", "", series, ticks)


CHARTS = {"curve": curve_chart, "loss": loss_chart, "byK": by_k_chart, "forest": differences_chart}
"""Those that the page draws, by its names for them."""
