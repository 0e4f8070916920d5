"""The learning curve: perplexity, and accuracy if it is asked for, of test (and dev) rows during training, measured as
in the final table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from triptych.config.tune import TuneConfig
from triptych.errors import DataError, ScoringError
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.measured import measure
from triptych.likelihood.score import Scorer
from triptych.progress import Reporter
from triptych.prompts import Rendered, RenderedOptions
from triptych.records import CurvePoint
from triptych.records.identity import MadeFrom
from triptych.records.store import copy_of, put_back, read_json, write_twice
from triptych.training.checkpoint import TrainState, require_training
from triptych.training.log import diverged_point
from triptych.training.rows import TuneRows

OnCurve = Callable[[Sequence[CurvePoint]], None]
Split = Literal["test", "dev"]
Rows = dict[str, list[float]]
"""`point_key` of a point -> the perplexities of its rows, in the rows' order, to six significant digits."""


def point_key(point: CurvePoint) -> str:
    """Which point this is, as its rows are filed: `test@25`."""
    return f"{point.split}@{point.step}"


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
    """Points written so far and the perplexities of their rows, as far as they are stored: older versions stored none.

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
        require_training(stored, made_from, path, what="this learning curve", folder=path.parent)
        points = [CurvePoint.model_validate(value) for value in stored["points"]]
        rows = {name: [float(ppl) for ppl in values] for name, values in stored.get("rows", {}).items()}
    except (DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            "the curve's record is torn",
            where=str(path),
            fix=f"put {copy_of(path).name} or a copy of your own in its place; where there is none, delete "
            f"{path.parent}: the same command then trains again, and keeps the cells that need no training",
        ) from error
    points = [point for point in points if up_to is None or point.step <= up_to]
    by_point = ((p, point_key(p)) for p in points)
    return points, {key: rows[key] for p, key in by_point if len(rows.get(key, ())) == p.aggregate.n_rows}


def write_curve(
    path: Path, curve: Sequence[CurvePoint], rows: Mapping[str, Sequence[float]], made_from: MadeFrom | None = None
) -> None:
    """Write all points so far and their rows' perplexities, in one file so that a kill can't part them."""
    # intervals are the report's: they are made from the rows when results are written
    points = [point.model_dump(mode="json", exclude={"ci_low", "ci_high"}) for point in curve]
    made = made_from.record() if made_from else {}
    write_twice(path, {"points": points, "rows": {name: list(values) for name, values in rows.items()}, **made})


@dataclass
class Points:
    """The curve so far, in memory and in `curve.json`."""

    rows: TuneRows
    config: TuneConfig
    path: Path
    scorer: Scorer
    reporter: Reporter
    on_curve: OnCurve | None
    made_from: MadeFrom | None
    curve: list[CurvePoint] = field(default_factory=list)
    curve_rows: Rows = field(default_factory=dict)

    def read(self, *, up_to: int) -> None:
        """Continue the curve on disk, as far as the checkpoint's step (`read_curve`)."""
        self.curve, self.curve_rows = read_curve(self.path, up_to=up_to, made_from=self.made_from)

    def evaluate(self, state: TrainState, *, lr: float, total: int, keep_best: Callable[[], None]) -> bool:
        """Make the points of this step that are still missing; returns whether there is patience left to train on.

        Args:
            state: step, rows and loss so far.
            lr: rate of the step before.
            total: steps of the training.
            keep_best: called when the adapter in its present state is the best on the split that is selected by.

        Raises:
            DivergedError: the adapter gives no finite perplexity.
        """
        given, n = self.rows, self.config.eval_rows
        of_splits: tuple[tuple[Split, Sequence[Rendered], Sequence[RenderedOptions] | None], ...] = (
            ("test", given.test[:n], given.test_options and given.test_options[:n]),
            ("dev", given.dev, given.dev_options),
        )
        for split, rows, options in of_splits:
            if not rows or any(p.step == state.step and p.split == split for p in self.curve):
                continue
            point, ppl = self._point(rows, options, split, state, lr, total)
            if split == self.config.select and best_step([*self.curve, point], split) == point.step:
                keep_best()  # before the curve says so: a kill in between evaluates again, and saves again
            self.curve.append(point)
            self.curve_rows[point_key(point)] = ppl
            write_curve(self.path, self.curve, self.curve_rows, self.made_from)
            if self.on_curve is not None:
                self.on_curve(self.curve)
        return not out_of_patience(self.curve, self.config.patience)

    def _point(
        self,
        rows: Sequence[Rendered],
        options: Sequence[RenderedOptions] | None,
        split: Split,
        state: TrainState,
        lr: float,
        total: int,
    ) -> tuple[CurvePoint, list[float]]:
        """A point and the perplexities of its rows."""
        with self.reporter.task(f"curve: {split} at step {state.step}", len(rows)) as advance:
            try:
                items, _ = measure(self.scorer, rows, options, advance)
                average, ppl = aggregate(items), [float(f"{item.ppl:.6g}") for item in items]
            except (ScoringError, OverflowError) as error:  # OverflowError: a perplexity beyond any float
                if state.step == 0:
                    raise
                raise diverged_point(self.path.parent, self.config, state.step, total, split, error) from error
        point = CurvePoint(
            step=state.step,
            epoch=state.rows_seen / len(self.rows.train),
            rows_seen=state.rows_seen,
            split=split,
            aggregate=average,
            train_loss=state.nll_since_point / state.scored_since_point if state.scored_since_point else None,
            lr=lr,
            seconds=state.seconds,
        )
        return point, ppl
