"""When a run ends, estimated from what it has done: seconds per token of its cells, seconds per step of its trainings.

a finished cell     what it took
a cell that is left tokens x seconds per token of the finished ones; a cell of the same k has as many tokens
a training          steps that are left x seconds per step; before its first steps, `STEP` forward passes each
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from triptych.config.choices import Select
from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset
from triptych.grid.cells import CellSpec, TrainingSpec
from triptych.records import TuneSummary
from triptych.runner.executors.schedule import makespan
from triptych.runner.folder import FinishedCell
from triptych.runner.run_log import OpenTask

STEP = 3.0
"""Passes forward that a training step on the same tokens takes as long as: forward, backward, and the adapter's own."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of work."""

    done: float
    left: float
    until_end: float
    """On the clock: `left` is shared by the processes."""

    @property
    def share(self) -> float:
        """What is done of the whole work, 0 to 1."""
        return self.done / (self.done + self.left) if self.left > 0 else 1.0


class TimeLeft:
    """The estimates of one run. `workers`: how many cells and trainings are computed at a time."""

    def __init__(
        self,
        config: ExperimentConfig,
        data: Dataset,
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.data, self.workers, self._clock = config, data, workers, clock
        self._tokens: dict[str, int] = {}
        self._seen: dict[OpenTask, tuple[float, int]] = {}

    def estimate(
        self,
        cells: Sequence[CellSpec],
        finished: Mapping[str, FinishedCell],
        trainings: Sequence[TrainingSpec],
        tuned: Mapping[TrainingSpec, TuneSummary],
        going_on: Sequence[OpenTask],
    ) -> Estimate | None:
        """None before the first cell is finished. `going_on`: the tasks of a training, and of cells by their names."""
        steps = [task for task in going_on if task.unit == "steps"]
        for task in steps:
            self._seen.setdefault(task, (self._clock(), task.done))
        if not finished:
            return None
        tokens = _Tokens(self, cells, finished)
        parts = []
        for cell in (cell for cell in cells if cell.name not in finished):
            begun = [task.done / task.total for task in going_on if task.total and task.title.endswith(f" {cell.name}")]
            parts.append((cell.training, tokens.seconds(cell) * (1 - max(begun, default=0.0))))
        done = sum(cell.record.seconds for cell in finished.values()) + sum(one.seconds for one in tuned.values())
        to_train: dict[TrainingSpec, float] = {}
        for place, spec in enumerate(spec for spec in trainings if spec not in tuned):
            before, to_train[spec] = self._training(spec, steps[place] if place < len(steps) else None, tokens, tuned)
            done += before
        left = sum(to_train.values()) + sum(seconds for _, seconds in parts)
        return Estimate(done, left, makespan(parts, to_train, self.workers))

    def tokens_of(self, cell: FinishedCell) -> int:
        """Prompt and output of all rows."""
        name = cell.record.cell
        if name not in self._tokens:
            self._tokens[name] = sum(item.n_prompt_tokens + item.n_tokens for item in cell.items)
        return self._tokens[name]

    @cached_property
    def demo_characters(self) -> float:
        """Mean length of a training row, which is what a demonstration adds to a prompt."""
        return fmean([len(row.instruction) + len(row.output or "") for row in self.data.train] or [0])

    def _training(
        self, spec: TrainingSpec, task: OpenTask | None, tokens: _Tokens, tuned: Mapping[TrainingSpec, TuneSummary]
    ) -> tuple[float, float]:
        """Seconds done and left of a training, the points of its curve included."""
        tune = self.config.tune
        total = task.total if task else tune.total_steps(spec.subset.budget if spec.subset else len(self.data.train))
        done = task.done if task else 0
        since, first = self._seen[task] if task else (0.0, 0)
        if done > first:  # the clock has counted the curve's points, too
            step = (self._clock() - since) / (done - first)
        else:
            row = min(tokens.per_row(spec.k, spec.select), tune.max_tokens)
            guess = STEP * tune.rows_per_step * row * tokens.per_token
            step = next((one.seconds / max(1, one.steps) for one in tuned.values()), guess)
            test = self.data.test[: tune.eval_rows] if tune.eval_rows else self.data.test
            point = (len(test) + len(self.data.dev)) * row * tokens.per_token
            step += point * len(tune.eval_steps(total)) / max(1, total)
        return done * step, (total - done) * step


class _Tokens:
    """Tokens of cells that are left, and seconds per token, from the finished cells."""

    def __init__(self, of: TimeLeft, cells: Sequence[CellSpec], finished: Mapping[str, FinishedCell]) -> None:
        every = list(finished.values())
        items, tokens = every[0].items, {cell.record.cell: of.tokens_of(cell) for cell in every}
        self.n_rows = len(items)
        # scores that were looked up say nothing of how long scoring takes
        computed = {cell.record.cell: 1 - cell.record.rows_cached / self.n_rows for cell in every}
        timed = [cell.record for cell in every if computed[cell.record.cell] >= 0.5]
        if timed:
            n_tokens = sum(tokens[record.cell] * computed[record.cell] for record in timed)
            self.per_token = sum(record.seconds for record in timed) / n_tokens
        else:
            self.per_token = sum(cell.record.seconds for cell in every) / sum(tokens.values())
        self._demo = of.demo_characters * sum(i.n_tokens for i in items) / max(1, sum(i.n_chars for i in items))
        shown = [(spec.k, spec.select, tokens[spec.name] / self.n_rows) for spec in cells if spec.name in tokens]
        self._alike = {(k, select): mean for k, select, mean in shown}
        self._bare = fmean([max(1.0, mean - k * self._demo) for k, _, mean in shown])

    def per_row(self, k: int, select: Select | None) -> float:
        """Tokens of a row with `k` demonstrations."""
        return self._alike.get((k, select if k else None), self._bare + k * self._demo)

    def seconds(self, cell: CellSpec) -> float:
        """How long a cell takes."""
        return self.n_rows * self.per_row(cell.k, cell.select) * self.per_token
