"""The points of the learning curve as training comes to them: scored, the best one's weights kept, written at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from triptych.config.tune import TuneConfig
from triptych.errors import ScoringError
from triptych.likelihood.score import Scorer
from triptych.progress import Reporter
from triptych.prompts import Rendered
from triptych.records import CurvePoint
from triptych.records.identity import MadeFrom
from triptych.training.checkpoint import TrainState
from triptych.training.curve import (
    Rows,
    Split,
    best_step,
    evaluate,
    out_of_patience,
    point_key,
    read_curve,
    write_curve,
)
from triptych.training.diverged import diverged_point
from triptych.training.rows import TuneRows

OnCurve = Callable[[Sequence[CurvePoint]], None]
_SPLITS: tuple[Split, ...] = ("test", "dev")


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
        """Take up what is written, as far as the checkpoint's step.

        Raises:
            RunChangedError: it is of a training that was made from something else.
        """
        self.curve, self.curve_rows = read_curve(self.path, up_to=up_to, made_from=self.made_from)

    def evaluate(self, state: TrainState, *, lr: float, total: int, keep_best: Callable[[], None]) -> bool:
        """Make the points of this step that are still missing.

        Args:
            state: where training stands.
            lr: rate of the step before.
            total: steps of the training.
            keep_best: called when the adapter as it stands is the best on the split that is selected by.

        Returns:
            Whether there is patience left to go on.

        Raises:
            DivergedError: the adapter gives no finite perplexity.
        """
        for split in _SPLITS:
            rows = self._rows_of(split)
            if not rows or any(p.step == state.step and p.split == split for p in self.curve):
                continue
            point, ppl = self._point(rows, split, state, lr, total)
            if split == self.config.select and best_step([*self.curve, point], split) == point.step:
                keep_best()  # before the curve says so: a kill in between evaluates again, and saves again
            self.curve.append(point)
            self.curve_rows[point_key(point)] = ppl
            write_curve(self.path, self.curve, self.curve_rows, self.made_from)
            if self.on_curve is not None:
                self.on_curve(self.curve)
        return not out_of_patience(self.curve, self.config.patience)

    def _rows_of(self, split: Split) -> Sequence[Rendered]:
        if split == "dev":
            return self.rows.dev
        return self.rows.test if self.config.eval_rows is None else self.rows.test[: self.config.eval_rows]

    def _point(
        self, rows: Sequence[Rendered], split: Split, state: TrainState, lr: float, total: int
    ) -> tuple[CurvePoint, list[float]]:
        epoch = state.rows_seen / len(self.rows.train)
        with self.reporter.task(f"curve: {split} at step {state.step}", len(rows)) as advance:
            try:
                return evaluate(self.scorer, rows, split, state, epoch=epoch, lr=lr, advance=advance)
            except (ScoringError, OverflowError) as error:  # OverflowError: a perplexity beyond any float
                if state.step == 0:
                    raise
                raise diverged_point(self.path.parent, self.config, state.step, total, split, error) from error
