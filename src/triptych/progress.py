"""What long work tells whoever watches. The command line draws bars from it; libraries and tests stay silent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Silent", "Watcher"]

logger = logging.getLogger("triptych")

Advance = Callable[[int], None]
"""Called with the number of units just done."""


class Watcher(Protocol):
    """Someone who watches."""

    def phase(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> AbstractContextManager[Advance]:
        """A stretch of work of `total` units, `done` of them already; yields a function to report more."""

    def say(self, message: str) -> None:
        """One line worth reading now."""


class Silent:
    """Watches nothing; messages go to the log."""

    @contextmanager
    def phase(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `Watcher.phase`."""
        yield lambda _: None

    def say(self, message: str) -> None:
        """See `Watcher.say`."""
        logger.info(message)
