"""Messages, and progress bars on a terminal or in a notebook: for the command line and for Python callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from triptych.progress import Advance
from triptych.terminal import new_console


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class ConsoleReporter:
    """Draws a bar per task (done, left, rate, time left) on a terminal or in a notebook; always prints messages."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or new_console()
        self._bars: Progress | None = None
        # rich draws bars in a notebook with ipywidgets, and warns where it isn't installed
        self._draws = self.console.is_terminal or (self.console.is_jupyter and find_spec("ipywidgets") is not None)

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `progress.Reporter.task`; tasks may be nested."""
        if not self._draws:
            yield lambda _: None
            return
        outermost = self._bars is None
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TextColumn("left", markup=False),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bars.start()
        bars = self._bars
        task = bars.add_task(title, total=total, completed=done, unit=unit)
        try:
            yield lambda n: bars.update(task, advance=n)
        finally:
            if not outermost:
                bars.remove_task(task)
            else:
                bars.stop()
                self._bars = None

    def info(self, message: str) -> None:
        """See `progress.Reporter.info`."""
        self.console.print(message, soft_wrap=True)

    def warn(self, message: str) -> None:
        """See `progress.Reporter.warn`."""
        self.info(f"warning: {message}")
