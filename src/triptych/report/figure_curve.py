"""The figure of the training: perplexity against optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from triptych.records import CurvePoint, RunRecord
from triptych.report.contenders import best_of_each, names, settings
from triptych.report.numbers import number
from triptych.report.style import COLOURS, GREY, INK, legend_below, new_figure, perplexity_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["learning_curve"]


def learning_curve(record: RunRecord) -> Figure | None:
    """Perplexity against optimizer steps, with the levels training has to beat; train loss beside it."""
    if not record.curve:
        return None
    loss = {p.step: p.train_loss for p in record.curve if p.train_loss is not None}
    figure = new_figure(8.4 if loss else 5.2, 3.6)
    left, *rest = figure.subplots(1, 2, width_ratios=(3, 2)) if loss else [figure.subplots()]
    shown = [p.aggregate.ppl_mean for p in record.curve]
    shown += _band(left, [p for p in record.curve if p.split == "test"])
    shown += _further(left, record.further_curves)
    first = record.tune.name if record.tune and record.tune.name and record.further_curves else "QLoRA"
    for split, line, filled in (("test", "-", True), ("dev", ":", False)):
        if points := [p for p in record.curve if p.split == split]:
            _curve(left, points, f"{first}, {split} rows", line, filled=filled)
    shown += _levels(left, record)
    _mark_selected(left, record)
    perplexity_scale(left, shown)
    left.set(xlabel="optimizer steps", ylabel="mean perplexity of the rows", title="Perplexity during QLoRA training")
    if loss:
        _loss(rest[0], loss)
    legend_below(figure, left, columns=3)
    return figure


def _band(axes: Axes, points: Sequence[CurvePoint]) -> list[float]:
    """The interval of each point's mean; runs of older versions have none. Returns the bounds that are drawn."""
    known = [(p.step, p.ci_low, p.ci_high) for p in points if p.ci_low is not None and p.ci_high is not None]
    if len(known) < 2:
        return []
    steps, low, high = (list(values) for values in zip(*known, strict=True))
    label = "95 % interval over the test rows"
    axes.fill_between(steps, low, high, color=COLOURS["qlora"], alpha=0.18, linewidth=0, label=label)
    return [*low, *high]


def _further(axes: Axes, curves: Mapping[str, Sequence[CurvePoint]]) -> list[float]:
    """The other trainings' test points, paler: each another line style. Returns the levels that are drawn."""
    levels = []
    for (name, points), dash in zip(curves.items(), cycle(((0, (1, 1)), (0, (4, 1, 1, 1)), (0, (2, 2)))), strict=False):
        test = [(p.step, p.aggregate.ppl_mean) for p in points if p.split == "test"]
        if test:
            axes.plot(
                *zip(*test, strict=True), color=COLOURS["qlora"], alpha=0.7, linewidth=1.3, linestyle=dash, label=name
            )
            levels += [level for _, level in test]
    return levels


def _curve(axes: Axes, points: Sequence[CurvePoint], label: str, line: str, *, filled: bool) -> None:
    colour = COLOURS["qlora"]
    axes.plot(
        [p.step for p in points],
        [p.aggregate.ppl_mean for p in points],
        line,
        color=colour,
        marker="o",
        markersize=5,
        markerfacecolor=colour if filled else "white",
        label=label,
    )


def _levels(axes: Axes, record: RunRecord) -> list[float]:
    """Dashed lines at the best that the base model reaches without training."""
    every, levels = names(settings(record.cells)), []
    for strategy, setting in best_of_each(record.cells).items():
        if strategy != "qlora":
            level = setting.mean()
            label = f"best {every[setting.label][0].lower()}{every[setting.label][1:]}: {number(level)}"
            axes.axhline(level, color=COLOURS[strategy], linestyle=(0, (5, 3)), linewidth=1.4, label=label, zorder=1)
            levels.append(level)
    return levels


def _mark_selected(axes: Axes, record: RunRecord) -> None:
    points = [p for p in record.curve if record.tune and p.step == record.tune.selected_step]
    point = next((p for p in points if p.split == "test"), None)
    if point and record.tune:
        level = point.aggregate.ppl_mean
        how = {"last": "last step", "dev": "best on dev", "test": "best on test"}[record.tune.selected_by]
        label = f"used ({how}): {number(level)}"
        axes.plot(
            *([point.step], [level]), "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, label=label
        )


def _loss(axes: Axes, loss: Mapping[int, float]) -> None:
    axes.plot(list(loss), list(loss.values()), color=GREY, marker="o", markersize=4)
    axes.set(xlabel="optimizer steps", ylabel="nats per scored token", title="Training loss")
    axes.set_xlim(left=0)
