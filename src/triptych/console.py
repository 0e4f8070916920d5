"""Messages and progress, for the command line and for Python callers.

On a terminal, and in a notebook with ipywidgets, rich draws a bar for each piece of work. Anywhere else (a file, a
pipe, a batch job, `TERM=dumb`) there is a line of what is done and left, at most every `EVERY` seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from triptych.progress import Advance
from triptych.terminal import new_console

EVERY = 30.0
"""Seconds between two lines, at least."""
PERCENT = "%"
"""The unit of work of several kinds, of which a share of `total` is shown: it has no rate."""
Clock = Callable[[], float]


@dataclass(eq=False)
class _Work:
    """One task: how much of it is done, and how fast."""

    title: str
    total: int
    done: int
    unit: str
    clock: Clock
    before: int = field(init=False)
    began: float = field(init=False)
    at: float = field(init=False)
    is_timed: bool = False

    def __post_init__(self) -> None:
        self.before, self.began = self.done, self.clock()
        self.at = self.began
        """When the last of it was done."""

    def advance(self, n: int) -> None:
        now = self.clock()
        self.done += n
        if self.unit == PERCENT and not self.is_timed:
            self.is_timed = True
            self.before, self.began = self.done, now  # what came before, such as loading a model, comes once
        self.at = now

    @property
    def share(self) -> str:
        return f"{100 * self.done // max(1, self.total)} %"

    @property
    def rate(self) -> float | None:
        """Units per second over the whole task; None before the first."""
        took = self.at - self.began
        return (self.done - self.before) / took if self.done > self.before and took > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds."""
        if not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (self.clock() - self.at))

    def line(self) -> str:
        """`few_shot/default: 40 of 80 rows, 5.1 rows/s, 0:00:08 left`."""
        parts = [f"{self.done:,} of {self.total:,} {self.unit}"]
        if self.unit == PERCENT:
            parts = [self.share]
        elif self.rate:
            parts.append(_rate(self.rate, self.unit))
        parts += [f"{_clock_time(self.left)} left"] if self.left is not None else []
        return f"{self.title}: {', '.join(parts)}"


def _rate(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}/s" if rate >= 0.1 else f"{60 * rate:.1f} {unit}/min"


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class _Done(ProgressColumn):
    """Units done, of all."""

    def render(self, task: Task) -> Text:
        work: _Work = task.fields["work"]
        return Text(work.share if work.unit == PERCENT else f"{work.done:,}/{work.total:,}", justify="right")


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        work: _Work = task.fields["work"]
        return Text(_rate(work.rate, work.unit) if work.rate and work.unit != PERCENT else "")


class _Left(ProgressColumn):
    """Time left by the rate of the whole task: rich's own forgets all but the last seconds, and cells take longer."""

    def render(self, task: Task) -> Text:
        left = task.fields["work"].left
        return Text("" if left is None else f"{_clock_time(left)} left")


class _Bars:
    """Bars of rich, the task that was begun first on top; they stop with the last task that ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._open = 0

    @contextmanager
    def task(self, work: _Work) -> Iterator[Advance]:
        with self._lock:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(bar_width=24),
                    _Done(),
                    _Rate(),
                    TimeElapsedColumn(),
                    _Left(),
                    console=self._console,
                )
                self._bars.start()
            bars = self._bars
            self._open += 1
            task = bars.add_task(work.title, total=work.total, completed=work.done, work=work)

        def advance(n: int) -> None:
            work.advance(n)
            bars.update(task, advance=n)

        try:
            yield advance
        finally:
            with self._lock:
                self._open -= 1
                if self._open:
                    bars.remove_task(task)
                else:
                    bars.stop()
                    self._bars = None


class _Lines:
    """A line of the progress of all open tasks, at most every `EVERY` seconds and only after some progress."""

    def __init__(self, say: Callable[[str], None], clock: Clock) -> None:
        self._say, self._clock = say, clock
        self._lock = threading.Lock()
        self._open: list[_Work] = []
        self._said = 0.0

    @contextmanager
    def task(self, work: _Work) -> Iterator[Advance]:
        with self._lock:
            if not self._open:
                self._said = self._clock()
            self._open.append(work)
        try:
            yield lambda n: self._advance(work, n)
        finally:
            with self._lock:
                self._open.remove(work)

    def _advance(self, work: _Work, n: int) -> None:
        with self._lock:
            work.advance(n)
            if (now := self._clock()) - self._said < EVERY:
                return
            self._said = now
            line = " | ".join(one.line() for one in self._open)
        self._say(line)


class ConsoleReporter:
    """Bars on a terminal or in a notebook, lines anywhere else; always prints messages.

    Tasks may be nested, or be open side by side and end in any order.
    """

    def __init__(self, console: Console | None = None, *, clock: Clock = time.monotonic) -> None:
        self.console, self._clock = console or new_console(), clock
        # rich draws bars in a notebook with ipywidgets, and warns where it isn't installed
        notebook = self.console.is_jupyter and find_spec("ipywidgets") is not None
        draws = notebook or (self.console.is_terminal and not self.console.is_dumb_terminal)
        self._shown = _Bars(self.console) if draws else _Lines(self.info, clock)

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `progress.Reporter.task`."""
        with self._shown.task(_Work(title, total, done, unit, self._clock)) as advance:
            yield advance

    def info(self, message: str) -> None:
        """See `progress.Reporter.info`."""
        self.console.print(message, soft_wrap=True)

    def warn(self, message: str) -> None:
        """See `progress.Reporter.warn`."""
        self.info(f"warning: {message}")
