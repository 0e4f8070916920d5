"""What an executor is: it takes tasks, and gives what they gave, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from triptych.runner.tasks import Outcome, Task


@dataclass(slots=True)
class Cancelled:
    """What was under way when an executor was cancelled."""

    done: list[tuple[Task, Outcome]] = field(default_factory=list)
    """Tasks that were done, whose outcome nobody had taken yet."""
    stopped: str | None = None
    """What a training says that saved and stopped."""


class Executor(Protocol):
    """Computes tasks. The run submits those that can begin, and, when one is done, those that waited for it."""

    @property
    def processes(self) -> int:
        """How many tasks are computed at a time."""

    def submit(self, *tasks: Task) -> None:
        """Take tasks to compute; may be called while results are read."""

    def results(self) -> Iterator[tuple[Task, Outcome]]:
        """Each task when it is done, with its outcome, until none is left.

        Raises:
            TriptychError: what a task raised; `cancel` then stops the others.
        """

    def cancel(self) -> Cancelled:
        """Stop what is being computed, and let trainings save where they are. Does nothing after the last result."""
