"""The figures of a report. Each function returns a figure, or None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from triptych.records import Comparison, FewShotSummary, RunRecord
from triptych.records.manifest import remove
from triptych.records.schema import Strategy
from triptych.report.contenders import Setting, best_of_each, names, settings
from triptych.report.figure_curve import learning_curve
from triptych.report.figure_rows import distribution, scatter
from triptych.report.fonts import stand_ins
from triptych.report.numbers import Interval, difference, p_text
from triptych.report.statistics import told_apart
from triptych.report.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    legend_below,
    new_figure,
    perplexity_scale,
    save,
    style,
    text_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "comparison", "differences", "draw_figures", "ppl_by_k"]

LINES = (
    *(("-", "s", "#D55E00"), ("--", "^", "#CC79A7"), (":", "v", "#8C5E00"), ("-.", "P", "#5B4A9E")),
    *(("-", "X", "#00797A"), ("--", "D", "#A3312C"), (":", "<", "#5E7F1E"), ("-.", ">", "#767676")),
)
FIGURES = ("learning_curve", "ppl_by_k", "comparison", "differences", "scatter", "distribution")
LONG = 60
"""Two names with more characters than this stand on two lines."""
PPL = "mean perplexity of the test rows"


def draw_figures(
    record: RunRecord, intervals: Mapping[str, Interval], rows: Mapping[str, Mapping[str, float]], folder: Path
) -> dict[str, dict[str, str]]:
    """Draw what there is to draw as PNG and SVG, and take away what there no longer is.

    By setting label, for the best of each: `intervals`, the interval of ppl_mean; `rows`, row id -> perplexity. Returns
    what was drawn, each with its key: what it writes for names that no font here can draw -> the name.
    """
    short, fonts = stand_ins(record)
    record, intervals, rows = short.record(record), short.keys(intervals), short.keys(rows)
    makers: dict[str, Callable[[], Figure | None]] = {
        "learning_curve": lambda: learning_curve(record),
        "ppl_by_k": lambda: ppl_by_k(record),
        "comparison": lambda: comparison(record, intervals),
        "differences": lambda: differences(record),
        "scatter": lambda: scatter(record, rows),
        "distribution": lambda: distribution(record, rows),
    }
    drawn: dict[str, dict[str, str]] = {}
    for name in FIGURES:
        with style(fonts):
            if figure := makers[name]():
                save(figure, folder, name)
                drawn[name] = short.used_in(_texts(figure))
            else:
                for kind in ("png", "svg"):
                    remove(folder / f"{name}.{kind}")
    return drawn


def _texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def ppl_by_k(record: RunRecord) -> Figure | None:
    """Perplexity against the number of demonstrations: every seed a point, mean and n-1 std over seeds."""
    if not record.few_shot:
        return None
    figure = new_figure(5.8, 4.3)
    axes = figure.subplots()
    series: dict[Series, list[FewShotSummary]] = {}
    for summary in record.few_shot:
        key = Series(summary.prompt, summary.select, summary.order, summary.draw)
        series.setdefault(key, []).append(summary)
    by_cell = {cell.cell: cell.aggregate.ppl_mean for cell in record.cells}
    for index, (key, summaries) in enumerate(series.items()):
        _series(axes, _series_name(key, series), summaries, by_cell, index)
    shown = [by_cell[cell] for summary in record.few_shot for cell in summary.cells if cell in by_cell]
    shown += _zero_shot_points(axes, record) + _qlora_lines(axes, record)
    ks = sorted({summary.k for summary in record.few_shot} | {0})
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_xlim(-0.06 * ks[-1], 1.06 * ks[-1])
    perplexity_scale(axes, shown)
    axes.set(xlabel="demonstrations in the prompt (k)", ylabel=PPL, title="Perplexity by number of demonstrations")
    legend_below(figure, axes, columns=1)
    return figure


class Series(NamedTuple):
    """What the cells of one line over k have in common."""

    prompt: str
    select: str
    order: str | None
    draw: str | None


def _series_name(key: Series, series: Mapping[Series, object]) -> str:
    parts = [key.prompt] if len({other.prompt for other in series}) > 1 else []
    if len({other.select for other in series}) > 1 or key.select != "random":
        parts.append(key.select)
    if key.order and len({other.order for other in series if other.select == key.select}) > 1:
        parts.append(key.order)
    if key.draw:
        parts.append({"item": "drawn for each row", "seed": "one draw a seed"}[key.draw])
    return ", ".join(["few-shot", *parts])


def _series(
    axes: Axes, name: str, summaries: Sequence[FewShotSummary], by_cell: Mapping[str, float], index: int
) -> None:
    ks = [summary.k for summary in summaries]
    # a series must be told from the others without relying on shades: line, marker and fill change with it
    line, marker, colour = LINES[index % len(LINES)]
    seeds = [(summary.k, by_cell[cell]) for summary in summaries for cell in summary.cells if cell in by_cell]
    # beside the mean, not under it; the first series to the left, the second to the right
    aside = (-0.018, 0.018, 0.03, -0.03)[index % 4] * max(ks)
    if any(summary.seeds for summary in summaries):
        xs, ys = [k + aside for k, _ in seeds], [ppl for _, ppl in seeds]
        axes.plot(xs, ys, "o", color=colour, markersize=3.5, alpha=0.6)
    means, stds = [s.ppl_mean.mean for s in summaries], [s.ppl_mean.std or 0.0 for s in summaries]
    most = max(len(summary.seeds) for summary in summaries)
    label = f"{name} (mean ± std n-1, {most} seeds)" if most > 1 else f"{name} (one seed)" if most else name
    errors = stds if any(stds) else None
    axes.errorbar(ks, means, errors, fmt=line, marker=marker, color=colour, markersize=6, capsize=4, label=label)


def _zero_shot_points(axes: Axes, record: RunRecord) -> list[float]:
    found = [(s, s.mean()) for s in settings(record.cells) if s.strategy == "zero_shot"]
    if found:
        best, level = min(found, key=lambda pair: pair[1])
        colour = COLOURS["zero_shot"]
        label = f"zero-shot prompts (lowest: {best.prompt})" if len(found) > 1 else f"zero-shot, {best.prompt}"
        axes.plot([0] * len(found), [v for _, v in found], MARKERS["zero_shot"], color=colour, label=label)
        axes.axhline(level, color=colour, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    return [value for _, value in found]


def _qlora_lines(axes: Axes, record: RunRecord) -> list[float]:
    best = best_of_each(record.cells).get("qlora")
    if best is None:
        return []
    axes.axhline(best.mean(), color=COLOURS["qlora"], linewidth=1.6, label=names(settings(record.cells))[best.label])
    return [best.mean()]


def comparison(record: RunRecord, intervals: Mapping[str, Interval]) -> Figure | None:
    """The best of each strategy with the interval of its own mean."""
    best = {s: setting for s, setting in best_of_each(record.cells).items() if setting.label in intervals}
    if len(best) < 2:
        return None
    figure = new_figure(7.0, 0.9 + 0.5 * len(best))
    axes = figure.subplots()
    short = names(settings(record.cells))
    for height, (strategy, setting) in enumerate(best.items()):
        _dot(axes, height, strategy, setting, intervals[setting.label])
    bounds = [bound for setting in best.values() for bound in intervals[setting.label]]
    perplexity_scale(axes, bounds, axis="x")
    axes.set_yticks(range(len(best)), [_with_seeds(short[s.label], s) for s in best.values()])
    axes.set_ylim(-0.5, len(best) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"{PPL}, 95 % interval over rows", title="The best of each strategy")
    return figure


def _with_seeds(name: str, setting: Setting) -> str:
    return f"{name}\n(mean of {setting.over().n} {setting.repeated})" if setting.repeated else name


def _dot(axes: Axes, height: int, strategy: Strategy, setting: Setting, bounds: Interval) -> None:
    mean, colour = setting.mean(), COLOURS[strategy]
    axes.plot(bounds, [height, height], color=colour, linewidth=2.4, solid_capstyle="butt")
    axes.plot([mean], [height], MARKERS[strategy], color=colour, markersize=6.5)
    text_beside(axes, height, difference(mean, *bounds))


def differences(record: RunRecord) -> Figure | None:
    """Forest plot of the paired differences, each with its interval and its corrected p-value."""
    if not record.comparisons:
        return None
    short = names(settings(record.cells))
    called = [(short.get(c.a, c.a), short.get(c.b, c.b)) for c in reversed(record.comparisons)]
    long = max(len(a) + len(b) for a, b in called) > LONG
    lines = [f"{a}\n−  {b}" if long else f"{a}  −  {b}" for a, b in called]
    # names take the room they need, and the plot keeps its own
    most = max(len(part) for line in lines for part in line.splitlines())
    size = (max(9.0, 6.2 + 0.075 * most), 1.2 + (0.5 if long else 0.36) * len(record.comparisons))
    axes = (figure := new_figure(*size)).subplots()
    for height, found in enumerate(reversed(record.comparisons)):
        _forest_line(axes, height, found)
    axes.axvline(0, color=INK, linewidth=1)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=6)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(-0.6, len(record.comparisons) - 0.4)
    axes.grid(visible=False, axis="y")
    what = "difference of mean perplexity, paired by row, with its interval  (left of 0: the first is better)"
    axes.set(
        xlabel=f"{what}\np after Holm correction; open and grey: can't be told from zero", title="Paired differences"
    )
    return figure


def _forest_line(axes: Axes, height: int, found: Comparison) -> None:
    colour = INK if told_apart(found) else GREY
    axes.plot([found.ci_low, found.ci_high], [height, height], color=colour, linewidth=2.2, solid_capstyle="butt")
    face = colour if told_apart(found) else "white"
    axes.plot([found.difference], [height], "o", color=colour, markerfacecolor=face, markersize=5.5)
    shown = difference(found.difference, found.ci_low, found.ci_high)
    text_beside(axes, height, f"{shown},  {p_text(found.p_holm)}")
