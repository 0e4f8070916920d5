"""`run.log` in a run's folder: messages and steps with their time, and the traceback of the error that ended the run.

The command line shows one message and no traceback; a maintainer finds it here. Every process that works on the run
appends to the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import Interrupted
from triptych.progress import Advance, Reporter
from triptych.records.manifest import claim
from triptych.records.provenance import provenance
from triptych.terminal import LogFormatter

RUN_LOG = "run.log"

logger = logging.getLogger("triptych.run")


@dataclass(eq=False)
class OpenTask:
    """Work that goes on: see `progress.Reporter.task`."""

    title: str
    total: int
    done: int
    unit: str


class _ShowWarnings(logging.Handler):
    """Warnings of our own modules to the reporter too: with the log's handler in place, Python prints them no more."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Show it, unless it came from the reporter."""
        if record.name != logger.name:
            self._reporter.warn(record.getMessage())


class RunLog:
    """A reporter that also writes; warnings of libraries go to the file too.

    Messages before `begin` are written when it is called: a run that can't begin leaves no log.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._handler: logging.FileHandler | None = None
        self._shown = _ShowWarnings(reporter)
        self._early: list[tuple[int, str]] = []
        self.open: list[OpenTask] = []
        """What goes on now."""
        self.on_progress: Callable[[], None] | None = None
        """Called whenever some of it is done."""

    def begin(self, folder: Path) -> None:
        """Open the folder's log, and write the messages so far."""
        claim(folder / RUN_LOG)
        self._handler = logging.FileHandler(folder / RUN_LOG, encoding="utf-8")
        self._handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("triptych").addHandler(self._shown)
        logger.setLevel(logging.INFO)
        facts: dict[str, Any] = provenance()
        logger.info("begun: %s (triptych %s, git %s)", facts["command"], facts["triptych"], facts["git"])
        for level, message in self._early:
            logger.log(level, "%s", message)
        self._early.clear()

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `progress.Reporter.task`."""
        size = "" if unit == "%" else f": {total:,} {unit}"
        before = f"{done / total:.0%} of it" if unit == "%" else f"{done:,} of them"
        self._write(logging.INFO, f"{title}{size}" + (f", {before} done before" if done else ""))
        task = OpenTask(title, total, done, unit)
        with self._reporter.task(title, total, done=done, unit=unit) as advance:

            def advanced(n: int) -> None:
                task.done += n
                advance(n)
                if self.on_progress is not None:
                    self.on_progress()

            self.open.append(task)
            try:
                yield advanced
            finally:
                self.open.remove(task)

    def info(self, message: str) -> None:
        """See `progress.Reporter.info`."""
        self._write(logging.INFO, message)
        self._reporter.info(message)

    def warn(self, message: str) -> None:
        """See `progress.Reporter.warn`."""
        self._write(logging.WARNING, message)
        self._reporter.warn(message)

    def ended(self, error: BaseException | None = None) -> None:
        """The run is over: done, stopped, or failed; then its traceback is written, and the error says where."""
        if self._handler is None:
            return
        if error is None:
            logger.info("done")
        elif isinstance(error, KeyboardInterrupt | Interrupted):
            logger.info("stopped: %s", str(error).split("\n")[0] or type(error).__name__)
        else:
            logger.error("failed", exc_info=error)
            error.add_note(f"the traceback is in {self._handler.baseFilename}")
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger("triptych").removeHandler(self._shown)
        self._handler.close()
        self._handler = None

    def _write(self, level: int, message: str) -> None:
        if self._handler is None:
            self._early.append((level, message))
        else:
            logger.log(level, "%s", message)
