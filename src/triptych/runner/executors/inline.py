"""The executor `local:1`: tasks one after another in this process, in the order they were submitted.

Under `torchrun` every rank has one. Rank 0's holds the tasks; the ranks compute shared ones (trainings) together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from triptych.runner.executors.base import Cancelled
from triptych.runner.session import RunContext
from triptych.runner.tasks import OnCurve, Outcome, Task
from triptych.training import World


class Inline:
    """Computes tasks in this process."""

    def __init__(self, run: RunContext, world: World, on_curve: OnCurve) -> None:
        self._run, self._world, self._on_curve = run, world, on_curve
        self._queue: deque[Task] = deque()

    @property
    def processes(self) -> int:
        """See `Executor.processes`."""
        return 1

    def submit(self, *tasks: Task) -> None:
        """See `Executor.submit`; on ranks other than 0 nothing is submitted."""
        self._queue.extend(tasks)

    def results(self) -> Iterator[tuple[Task, Outcome]]:
        """See `Executor.results`. On ranks other than 0, the outcome of what rank 0 computes alone is None."""
        while (task := self._world.on_rank0(self._next)) is not None:
            if task.shared or self._world.is_rank0:
                yield task, self._compute(task)
            else:
                self._world.on_rank0(lambda: None)
                yield task, None

    def cancel(self) -> Cancelled:
        """See `Executor.cancel`: the task that is computed is interrupted by what interrupts this process."""
        self._queue.clear()
        return Cancelled()

    def _compute(self, task: Task) -> Outcome:
        if task.shared:
            return task.perform(self._run, self._world, self._on_curve)
        done: list[Outcome] = []
        self._world.on_rank0(lambda: done.append(task.perform(self._run, self._world, self._on_curve)))
        return done[0]

    def _next(self) -> Task | None:
        return self._queue.popleft() if self._queue else None
