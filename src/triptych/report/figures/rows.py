"""The figures of single rows: two strategies against each other row by row, and how the rows are distributed."""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from triptych.report.figures.style import COLOURS, GREY, INK, MARKERS, legend_below, new_figure, perplexity_scale
from triptych.report.groups import Setting
from triptych.report.numbers import number
from triptych.report.statistics import TIE
from triptych.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 2000
"""Points beyond this are pixels in the SVG too, or it would be megabytes."""
LINES = {"qlora": "-", "few_shot": "--", "zero_shot": ":"}


def scatter(study: Study) -> Figure | None:
    """Each row's perplexity under the two best strategies; the better one is drawn upwards, so low is good."""
    ranked = study.ranked
    if len(ranked) < 2 or not study.ppl_rows:
        return None
    (up, across), rows = ranked[:2], study.ppl_rows
    pairs = [(rows[across.label][row], ppl) for row, ppl in rows[up.label].items() if row in rows[across.label]]
    if not pairs:
        return None
    axes = (figure := new_figure(5.6, 5.9)).subplots()
    short, full = study.names, {s.label: _name(study, s) for s in (up, across)}
    _points(axes, up, [(x, y) for x, y in pairs if x - y >= TIE], f"below: {short[up.label]} better")
    _points(axes, across, [(x, y) for x, y in pairs if y - x >= TIE], f"above: {short[across.label]} better")
    every = [ppl for pair in pairs for ppl in pair]
    ends = (min(every) / 1.12, max(every) * 1.12)
    equal = sum(abs(x - y) < TIE for x, y in pairs)
    label = f"equal ({_rows(equal)})" if equal else "equal"
    axes.plot(ends, ends, color=INK, linewidth=1.2, linestyle=(0, (5, 3)), label=label, zorder=1)
    for axis in ("x", "y"):
        perplexity_scale(axes, ends, axis=axis, always=True)
    axes.set(xlim=ends, ylim=ends, aspect="equal", title="Row by row")
    axes.set(xlabel=f"perplexity of a row: {full[across.label]}", ylabel=f"perplexity of a row: {full[up.label]}")
    legend_below(figure, axes, columns=1)
    return figure


def _points(axes: Axes, winner: Setting, points: list[tuple[float, float]], label: str) -> None:
    size = 4.5 if len(points) <= 500 else 2.5
    look: dict[str, Any] = {"color": COLOURS[winner.strategy], "markersize": size, "markeredgewidth": 0, "alpha": 0.55}
    look |= {"label": f"{label} ({_rows(len(points))})", "rasterized": len(points) > MANY}
    axes.plot([x for x, _ in points], [y for _, y in points], MARKERS[winner.strategy], **look)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def distribution(study: Study) -> Figure | None:
    """The share of the rows at or below each perplexity, for the best of each strategy, with median and mean."""
    rows = study.ppl_rows
    settings = [s for s in study.best.values() if len(rows.get(s.label, ())) > 1]
    if not settings:
        return None
    axes = (figure := new_figure(6.4, 4.2)).subplots()
    for setting in settings:
        _steps(axes, setting, sorted(rows[setting.label].values()), _name(study, setting))
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    every = [ppl for setting in settings for ppl in rows[setting.label].values()]
    perplexity_scale(axes, every, axis="x", always=True)
    axes.set(xlabel="perplexity of a row", ylabel="share of the rows at or below", title="Distribution over rows")
    axes.set_ylim(0, 1.02)
    legend_below(figure, axes, columns=1)
    return figure


def _steps(axes: Axes, setting: Setting, values: list[float], name: str) -> None:
    colour, line, mean = COLOURS[setting.strategy], LINES[setting.strategy], fmean(values)
    label = f"{name}: median {number(median(values))}, mean {number(mean)} (mark)"
    below = sum(value <= mean for value in values) / len(values)
    axes.ecdf(values, color=colour, linestyle=line)
    # the legend shows line and mark together
    marker = MARKERS[setting.strategy]
    axes.plot([mean], [below], color=colour, linestyle=line, marker=marker, markersize=7, label=label)


def _name(study: Study, setting: Setting) -> str:
    name = study.name(setting.label)
    return f"{name} (mean of {setting.over().n} {setting.repeated})" if setting.repeated else name
