"""Where a run computes its cells and trainings: `--on auto`, `--on local:4`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from triptych.errors import ConfigError

VARIABLE = "TRIPTYCH_ON"
"""Environment variable with the executor of runs that name none."""
MOST_PROCESSES = 1024


@dataclass(frozen=True, slots=True)
class ExecutorChoice:
    """What `--on` says."""

    processes: int | None = None
    """Of this machine; None: as many as fit."""

    def __str__(self) -> str:
        """As `--on` has it."""
        return f"local:{self.processes}" if self.processes else "auto"


def executor_choice(text: str | None) -> ExecutorChoice:
    """Read `--on`, or the environment variable `TRIPTYCH_ON` where it isn't given; without both it is `auto`.

    Raises:
        ConfigError: it is neither `auto` nor `local:N`.
    """
    where, given = ("--on", text) if text is not None else (VARIABLE, os.environ.get(VARIABLE) or "auto")
    if given == "auto":
        return ExecutorChoice()
    number = re.fullmatch(r"local:(\d{1,9})", given, re.ASCII)
    if number and 1 <= int(number[1]) <= MOST_PROCESSES:
        return ExecutorChoice(int(number[1]))
    raise ConfigError(
        "this is no executor",
        where=where,
        found=given,
        expected=f"`auto`, or `local:N` with N processes on this machine, 1 to {MOST_PROCESSES}",
        fix=f"give `local:1` for one process; the number of cores here is {cores()}",
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
