"""The series of the charts of training: the learning curve, and the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from triptych.records import CurvePoint
from triptych.report.measures import PERPLEXITY, measured
from triptych.report.numbers import Interval, number
from triptych.report.proportions import wilson
from triptych.report.series import Chart, Series, level_of
from triptych.report.study import Study

SELECTED = {"last": "last step", "dev": "best on dev", "test": "best on test"}


def curve_chart(study: Study) -> Chart | None:
    """The deciding metric against optimizer steps, with the levels training has to beat.

    Perplexity where the evaluations during training lack the metric.
    """
    record = study.record
    if not record.curve:
        return None
    if any(measured(point.aggregate, study.average) is None for point in record.curve):
        study = study.by(PERPLEXITY)
    by_split = {split: [p for p in record.curve if p.split == split] for split in ("test", "dev")}
    first = (record.tune and record.further_curves and record.tune.name) or "QLoRA"
    series = [
        *_band(study, by_split["test"]),
        *(
            _line(study, "further", name, chosen, place)
            for place, (name, points) in enumerate(record.further_curves.items())
            if (chosen := [p for p in points if p.split == "test" and measured(p.aggregate, study.average) is not None])
        ),
        *(_line(study, split, f"{first}, {split} rows", points) for split, points in by_split.items() if points),
        *(level_of(study, setting, "best ") for strategy, setting in study.best.items() if strategy != "qlora"),
        *_used(study),
    ]
    return Chart(
        "optimizer steps", f"{study.metric.label} of the rows", tuple(series), log_allowed=study.metric == PERPLEXITY
    )


def _line(study: Study, role: str, name: str, points: Sequence[CurvePoint], place: int = 0) -> Series:
    levels = tuple(_measured(study, p) for p in points)
    word = study.metric.label.removeprefix("mean ")
    texts = tuple(
        f"step {p.step:,}, epoch {number(p.epoch)}\n{word} {number(level)}"
        for p, level in zip(points, levels, strict=True)
    )
    return Series(role, name, tuple(p.step for p in points), levels, strategy="qlora", place=place, texts=texts)


def _measured(study: Study, point: CurvePoint) -> float:
    level = measured(point.aggregate, study.average)
    assert level is not None  # `curve_chart` asked
    return level


def _bounds(study: Study, p: CurvePoint) -> Interval | None:
    low, high = p.ci_low, p.ci_high
    if study.metric != PERPLEXITY:
        value = p.aggregate.metrics[study.average]
        low, high = value.ci_low, value.ci_high
        if study.metric.zero_or_one:  # it needs no rows
            return wilson(min(value.n, value.value * value.n), value.n)
    return None if low is None or high is None else Interval(low, high)


def _band(study: Study, points: Sequence[CurvePoint]) -> list[Series]:
    """The interval of each point's mean; runs of older versions have none."""
    bounds = {p.step: interval for p in points if (interval := _bounds(study, p))}
    if len(bounds) < 2:
        return []
    line = _line(study, "band", "95 % interval over the test rows", [p for p in points if p.step in bounds])
    return [replace(line, bounds=tuple(bounds.values()), texts=())]


def _used(study: Study) -> list[Series]:
    """The evaluation of the checkpoint that was kept."""
    tune = study.record.tune
    point = next((p for p in study.record.curve if tune and p.step == tune.selected_step and p.split == "test"), None)
    if tune is None or point is None:
        return []
    level = _measured(study, point)
    # runs of older versions kept no interval of the point; where one cell was scored, it is the cell's
    tuned = [cell for setting in study.of("qlora") for cell in setting.cells]
    bounds = _bounds(study, point) or (study.intervals.get(tuned[0].cell) if len(tuned) == 1 else None)
    name = f"used ({SELECTED[tune.selected_by]}): {number(level)}"
    return [Series("used", name, (point.step,), (level,), (bounds,) if bounds else ())]


def loss_chart(study: Study) -> Chart | None:
    """Training loss against optimizer steps."""
    losses = {p.step: p.train_loss for p in study.record.curve if p.train_loss is not None}
    if len(losses) < 2:
        return None
    texts = tuple(f"step {step:,}\n{loss:.3f} nats per token" for step, loss in losses.items())
    line = Series("loss", "", tuple(losses), tuple(losses.values()), texts=texts)
    return Chart("optimizer steps", "nats per scored token", (line,))
