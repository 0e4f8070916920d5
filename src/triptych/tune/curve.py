"""The learning curve: perplexity on test (and dev) rows during training, through the scorer of the final table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from triptych.errors import DataError
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer, to_items
from triptych.progress import Advance
from triptych.prompts import Rendered
from triptych.records import CurvePoint
from triptych.records.store import read_json, write_json
from triptych.tune.checkpoint import TrainState

__all__ = ["Split", "best_step", "evaluate", "read_curve", "write_curve"]

Split = Literal["test", "dev"]


def evaluate(
    scorer: Scorer,
    rows: Sequence[Rendered],
    split: Split,
    state: TrainState,
    *,
    epoch: float,
    lr: float,
    advance: Advance,
) -> CurvePoint:
    """One point, with the adapter as it stands."""
    items = to_items(rows, scorer.score(rows, advance))
    return CurvePoint(
        step=state.step,
        epoch=epoch,
        rows_seen=state.rows_seen,
        split=split,
        aggregate=aggregate(items),
        train_loss=state.nll_since_point / state.scored_since_point if state.scored_since_point else None,
        lr=lr,
        seconds=state.seconds,
    )


def best_step(curve: Sequence[CurvePoint], split: Split) -> int:
    """The step with the lowest `ppl_mean` on a split, the earliest of equals."""
    return min((p for p in curve if p.split == split), key=lambda p: (p.aggregate.ppl_mean, p.step)).step


def read_curve(path: Path, *, up_to: int) -> list[CurvePoint]:
    """Points written so far, those beyond step `up_to` left out: they are computed again from the checkpoint."""
    if not path.exists():
        return []
    try:
        points = [CurvePoint.model_validate(value) for value in read_json(path)["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("the curve's record is torn", where=str(path), fix="delete it: it is made again") from error
    return [point for point in points if point.step <= up_to]


def write_curve(path: Path, curve: Sequence[CurvePoint]) -> None:
    """Write all points so far."""
    write_json(path, {"points": [point.model_dump(mode="json") for point in curve]})
