"""The figures of settings: each draws the series of one chart (`report.series`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triptych.report.calibration import calibration_chart
from triptych.report.crossover_shown import crossover_chart
from triptych.report.curves import curve_chart, loss_chart
from triptych.report.figures.style import COLOURS, GREY, INK, MARKERS, legend_below, new_figure, perplexity_scale
from triptych.report.groups import capital
from triptych.report.series import Chart, Series, best_chart, by_k_chart, differences_chart
from triptych.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAYS = (
    *(("-", "s", "#D55E00"), ("--", "^", "#CC79A7"), (":", "v", "#8C5E00"), ("-.", "P", "#5B4A9E")),
    *(("-", "X", "#00797A"), ("--", "D", "#A3312C"), (":", "<", "#5E7F1E"), ("-.", ">", "#767676")),
)
"""Of ways of choosing demonstrations; line, marker and colour change together, so that none rests on its shade."""
FURTHER = ((0, (1, 1)), (0, (4, 1, 1, 1)), (0, (2, 2)))
DASHED = (0, (5, 3))
LONG = 60
"""Two names with more characters than this stand on two lines."""


def learning_curve(study: Study) -> Figure | None:
    """The deciding metric against optimizer steps, with the levels training has to beat; train loss beside it."""
    chart, loss = curve_chart(study), loss_chart(study)
    if chart is None:
        return None
    figure = new_figure(8.4 if loss else 5.2, 3.6)
    left, *rest = figure.subplots(1, 2, width_ratios=(3, 2)) if loss else [figure.subplots()]
    _draw(left, chart)
    left.set(title=f"{_titled(chart.y.removesuffix(' of the rows'))} during QLoRA training")
    if loss:
        _draw(rest[0], loss)
        rest[0].set(title="Training loss")
        rest[0].set_xlim(left=0)
    legend_below(figure, left, columns=3)
    return figure


def ppl_by_k(study: Study) -> Figure | None:
    """The deciding metric against the number of demonstrations: every seed a point, mean and n-1 std over seeds."""
    chart = by_k_chart(study)
    if chart is None:
        return None
    last = chart.ticks[-1][0]
    return _over_counts(chart, (5.8, 4.3), (-0.06 * last, 1.06 * last), f"{_of(study)} by number of demonstrations", 1)


def crossover(study: Study) -> Figure | None:
    """The deciding metric against the number of labelled rows, a curve for each strategy."""
    chart = crossover_chart(study)
    if chart is None:
        return None
    ends = (chart.ticks[0][0] - 0.2, chart.ticks[-1][0] + 0.2)
    return _over_counts(chart, (6.4, 4.3), ends, f"{_of(study)} by number of labelled rows", 2)


def _over_counts(
    chart: Chart, size: tuple[float, float], ends: tuple[float, float], title: str, columns: int
) -> Figure:
    """A chart whose ticks are counts; `columns` of its legend."""
    axes = (figure := new_figure(*size)).subplots()
    _draw(axes, chart)
    axes.set_xticks(*zip(*chart.ticks, strict=True))
    axes.set_xlim(*ends)
    axes.set(title=title)
    legend_below(figure, axes, columns=columns)
    return figure


def _of(study: Study) -> str:
    return _titled(study.metric.label)


def _titled(label: str) -> str:
    """A metric's name at a title's beginning."""
    return capital(label.removeprefix("mean "))


def _draw(axes: Axes, chart: Chart) -> None:
    most = max((x for x, _ in chart.ticks), default=0)
    for series in chart.series:
        _series(axes, series, most)
    if chart.log_allowed and any(series.role != "loss" for series in chart.series):
        perplexity_scale(axes, chart.levels)
    axes.set(xlabel=chart.x, ylabel=chart.y)


def _series(axes: Axes, s: Series, most: float) -> None:
    colour, label = COLOURS[s.strategy] if s.strategy else GREY, s.name or None
    line, marker, way = WAYS[s.place % len(WAYS)]
    match s.role:
        case "band":
            low, high = zip(*s.bounds, strict=True)
            axes.fill_between(s.x, low, high, color=colour, alpha=0.18, linewidth=0, label=label)
        case "further":
            dash = FURTHER[s.place % len(FURTHER)]
            axes.plot(s.x, s.y, color=colour, alpha=0.7, linewidth=1.3, linestyle=dash, label=label)
        case "test":
            axes.plot(s.x, s.y, "-", color=colour, marker="o", markersize=5, label=label)
        case "dev":
            axes.plot(s.x, s.y, ":", color=colour, marker="o", markersize=5, markerfacecolor="white", label=label)
        case "level":
            axes.axhline(s.y[0], color=colour, linestyle=DASHED, linewidth=1.4, label=label, zorder=1)
        case "used":
            axes.plot(s.x, s.y, "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, label=label)
        case "seeds":
            # beside the mean, not under it; the first way to the left, the second to the right
            aside = (-0.018, 0.018, 0.03, -0.03)[s.place % 4] * most
            axes.plot([k + aside for k in s.x], s.y, "o", color=way, markersize=3.5, alpha=0.6)
        case "few_shot":
            errors = [(y - low, high - y) for y, (low, high) in zip(s.y, s.bounds, strict=bool(s.bounds))]
            bars = list(zip(*errors, strict=True)) or None
            axes.errorbar(s.x, s.y, bars, fmt=line, marker=marker, color=way, markersize=6, capsize=4, label=label)
        case "zero_shot":
            axes.plot(s.x, s.y, MARKERS["zero_shot"], color=colour, label=label)
        case _:
            axes.plot(s.x, s.y, color=colour, marker="o", markersize=4)


def comparison(study: Study) -> Figure | None:
    """The best of each strategy with the interval of its own mean."""
    chart = best_chart(study)
    if chart is None:
        return None
    axes = (figure := new_figure(7.0, 0.9 + 0.5 * len(chart.ticks))).subplots()
    for s in chart.series:
        assert s.strategy is not None
        _points(axes, s, COLOURS[s.strategy], COLOURS[s.strategy], MARKERS[s.strategy], 6.5)
    if chart.log_allowed:
        perplexity_scale(axes, [bound for s in chart.series for bounds in s.bounds for bound in bounds], axis="x")
    _named(axes, chart, [text for _, text in chart.ticks])
    axes.set_ylim(-0.5, len(chart.ticks) - 0.4)
    axes.set(xlabel=chart.x, title="The best of each strategy")
    return figure


def differences(study: Study) -> Figure | None:
    """Forest plot of the paired differences, each with its interval and its corrected p-value."""
    chart = differences_chart(study)
    if chart is None:
        return None
    texts = [text for _, text in chart.ticks]
    long = max(map(len, texts)) > LONG + len("\n−  ")
    lines = texts if long else [text.replace("\n", "  ") for text in texts]
    # names take the room they need, and the plot keeps its own
    most = max(len(part) for line in lines for part in line.splitlines())
    size = (max(9.0, 6.2 + 0.075 * most), 1.2 + (0.5 if long else 0.36) * len(lines))
    axes = (figure := new_figure(*size)).subplots()
    for s in chart.series:
        colour, face = (INK, INK) if s.role == "significant" else (GREY, "white")
        _points(axes, s, colour, face, "o", 5.5)
    axes.axvline(0, color=INK, linewidth=1)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=6)
    _named(axes, chart, lines)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    side = "right" if study.metric.higher_is_better else "left"
    xlabel = f"{chart.x}, paired by row, with its interval  ({side} of 0: the first is better)"
    xlabel += "\np after Holm correction; open and grey: can't be told from zero"
    axes.set(xlabel=xlabel, title="Paired differences")
    return figure


def calibration(study: Study) -> Figure | None:
    """Share of right answers against their probability, for the best cell of each strategy; with the diagonal."""
    chart = calibration_chart(study)
    if chart is None:
        return None
    axes = (figure := new_figure(5.2, 5.4)).subplots()
    for s in chart.series:
        if s.strategy is None:
            axes.plot(s.x, s.y, color=GREY, linestyle=DASHED, linewidth=1.2, label=s.name, zorder=1)
        else:
            # a point's area goes with its rows: lines between points of few rows say little
            look: dict[str, Any] = {"color": COLOURS[s.strategy], "marker": MARKERS[s.strategy]}
            axes.plot([], [], label=s.name, linewidth=1.2, markersize=5.5, **look)
            axes.plot(s.x, s.y, color=COLOURS[s.strategy], linewidth=0.9, alpha=0.6)
            axes.scatter(s.x, s.y, s=[12 + 240 * share for share in s.shares], alpha=0.85, zorder=2, **look)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=chart.x, ylabel=chart.y)
    axes.set(title="Calibration (larger points: more rows)")
    legend_below(figure, axes, columns=1)
    return figure


def _points(axes: Axes, s: Series, colour: str, face: str, marker: str, size: float) -> None:
    """Points with their intervals, and each point's text in a column beside the plot."""
    for x, y, bounds, text in zip(s.x, s.y, s.bounds, s.texts, strict=True):
        axes.plot(bounds, [y, y], color=colour, linewidth=2.3, solid_capstyle="butt")
        axes.plot([x], [y], marker, color=colour, markerfacecolor=face, markersize=size)
        # to the right of the plot, so that the numbers make a column
        place: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axes.annotate(text, (1.02, y), fontsize=8.5, **place)


def _named(axes: Axes, chart: Chart, lines: list[str]) -> None:
    axes.set_yticks([place for place, _ in chart.ticks], lines)
    axes.grid(visible=False, axis="y")
