"""What long work reports. The command line draws bars from it; libraries and tests stay silent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

logger = logging.getLogger("triptych")

Advance = Callable[[int], None]
"""Called with the number of units just done."""


class Reporter(Protocol):
    """Shows progress and messages, or does something else with them: `console.ConsoleReporter` prints them."""

    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> AbstractContextManager[Advance]:
        """Work of `total` units, `done` of them already; yields a function to report more."""

    def info(self, message: str) -> None:
        """A line worth reading now."""

    def warn(self, message: str) -> None:
        """A line about something that may be wrong, and that stops nothing."""


class Silent:
    """Shows nothing. Messages go to the log, as information: nobody asked to see them."""

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `Reporter.task`."""
        yield lambda _: None

    def info(self, message: str) -> None:
        """See `Reporter.info`."""
        logger.info(message)

    def warn(self, message: str) -> None:
        """See `Reporter.warn`."""
        logger.info("warning: %s", message)
