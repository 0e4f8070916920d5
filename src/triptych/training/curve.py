"""The learning curve: perplexity on test (and dev) rows during training, through the scorer of the final table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from triptych.errors import DataError
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer, to_items
from triptych.progress import Advance
from triptych.prompts import Rendered
from triptych.records import CurvePoint
from triptych.records.identity import MadeFrom, require_same
from triptych.records.store import copy_of, put_back, read_json, write_twice
from triptych.training.checkpoint import TrainState

Split = Literal["test", "dev"]
Rows = dict[str, list[float]]
"""`point_key` of a point -> the perplexities of its rows, in the rows' order, to six significant digits."""


def point_key(point: CurvePoint) -> str:
    """Which point this is, as its rows are filed: `test@25`."""
    return f"{point.split}@{point.step}"


def evaluate(
    scorer: Scorer,
    rows: Sequence[Rendered],
    split: Split,
    state: TrainState,
    *,
    epoch: float,
    lr: float,
    advance: Advance,
) -> tuple[CurvePoint, list[float]]:
    """One point, with the adapter as it stands, and the perplexities of its rows."""
    items = to_items(rows, scorer.score(rows, advance))
    point = CurvePoint(
        step=state.step,
        epoch=epoch,
        rows_seen=state.rows_seen,
        split=split,
        aggregate=aggregate(items),
        train_loss=state.nll_since_point / state.scored_since_point if state.scored_since_point else None,
        lr=lr,
        seconds=state.seconds,
    )
    return point, [float(f"{item.ppl:.6g}") for item in items]


def best_step(curve: Sequence[CurvePoint], split: Split) -> int:
    """The step with the lowest `ppl_mean` on a split, the earliest of equals."""
    return min((p for p in curve if p.split == split), key=lambda p: (p.aggregate.ppl_mean, p.step)).step


def out_of_patience(curve: Sequence[CurvePoint], patience: int | None) -> bool:
    """Whether the last `patience` points on dev are all no better than the best before them."""
    on_dev = sum(point.split == "dev" for point in curve)
    if patience is None or not on_dev:
        return False
    best = best_step(curve, "dev")
    return sum(point.split == "dev" and point.step > best for point in curve) >= patience


def read_curve(
    path: Path, *, up_to: int | None = None, made_from: MadeFrom | None = None
) -> tuple[list[CurvePoint], Rows]:
    """Points written so far and the perplexities of their rows, as far as these were kept: older versions kept none.

    Args:
        path: `curve.json`; it need not exist.
        up_to: points beyond this step are left out: they are computed again from the checkpoint.
        made_from: what decides the training.

    Raises:
        RunChangedError: they are of a training that was made from something else.
        DataError: the file is torn, and so is its copy.
    """
    put_back(path)
    if not path.exists():
        return [], {}
    try:
        stored = read_json(path)
        if made_from is not None:
            require_same(
                stored,
                made_from,
                where=str(path),
                what="this learning curve",
                fix=f"to train anew, delete {path.parent}; or give another folder with --out",
            )
        points = [CurvePoint.model_validate(value) for value in stored["points"]]
        kept = {name: [float(ppl) for ppl in rows] for name, rows in stored.get("rows", {}).items()}
    except (DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            "the curve's record is torn",
            where=str(path),
            fix=f"put {copy_of(path).name} or a copy of your own in its place; where there is none, delete "
            f"{path.parent}: the same command then trains again, and keeps the cells that need no training",
        ) from error
    points = [point for point in points if up_to is None or point.step <= up_to]
    whole = (p for p in points if len(kept.get(point_key(p), ())) == p.aggregate.n_rows)
    return points, {point_key(p): kept[point_key(p)] for p in whole}


def write_curve(
    path: Path,
    curve: Sequence[CurvePoint],
    rows: Mapping[str, Sequence[float]],
    made_from: MadeFrom | None = None,
) -> None:
    """Write all points so far and their rows' perplexities, in one file so that a kill can't part them."""
    # intervals are the report's: they are made from the rows when results are written
    points = [point.model_dump(mode="json", exclude={"ci_low", "ci_high"}) for point in curve]
    made = made_from.record() if made_from else {}
    write_twice(path, {"points": points, "rows": {name: list(values) for name, values in rows.items()}, **made})
