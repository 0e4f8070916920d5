"""Progress on a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from contextlib import ExitStack

import pytest

from triptych import console
from triptych.console import ConsoleReporter
from triptych.terminal import new_console

MOVES = re.compile(r"\x1b\[[0-9;?]*[A-HJKf-hl]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Plain:
    """A reporter without a terminal."""

    def __init__(self) -> None:
        self.out, self.clock = io.StringIO(), Clock()
        self.reporter = ConsoleReporter(new_console(file=self.out), clock=self.clock)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def plain() -> Plain:
    return Plain()


def test_without_a_terminal_a_line_says_what_is_done_and_left_at_most_every_30_seconds(plain: Plain) -> None:
    with plain.reporter.task("training", 40, unit="steps") as advance:
        for _ in range(39):
            plain.clock.now += 2
            advance(1)
    assert plain.lines == [
        "training: 15 of 40 steps, 0.5 steps/s, 0:00:50 left",
        "training: 30 of 40 steps, 0.5 steps/s, 0:00:20 left",
    ]


def test_short_work_has_no_line(plain: Plain) -> None:
    for _ in range(20):
        with plain.reporter.task("cell", 2) as advance:
            plain.clock.now += 29
            advance(2)
    assert plain.lines == []


def test_tasks_that_are_open_together_share_a_line_and_end_in_any_order(plain: Plain) -> None:
    with ExitStack() as whole:
        advance_whole = whole.enter_context(plain.reporter.task("whole run", 1000, done=150, unit="%"))
        plain.clock.now += 25
        advance_whole(50)  # a model was loaded before, which is no measure of what follows
        first, second = ExitStack(), ExitStack()
        advance_first = first.enter_context(plain.reporter.task("1/2 a", 10))
        advance_second = second.enter_context(plain.reporter.task("2/2 b", 1000))
        plain.clock.now += 40
        advance_first(10)
        first.close()
        advance_second(100)
        advance_whole(100)
        plain.clock.now += 40
        advance_second(100)
        second.close()
        whole.close()
    assert plain.lines == [
        "whole run: 20 % | 1/2 a: 10 of 10 rows, 0.2 rows/s, 0:00:00 left | 2/2 b: 0 of 1,000 rows",
        "whole run: 30 %, 0:04:00 left | 2/2 b: 200 of 1,000 rows, 2.5 rows/s, 0:05:20 left",
    ]


def test_work_that_was_done_before_has_no_part_in_the_rate(plain: Plain) -> None:
    with plain.reporter.task("training", 100, done=90, unit="steps") as advance:
        plain.clock.now += 60
        advance(1)
    assert plain.lines == ["training: 91 of 100 steps, 1.0 steps/min, 0:09:00 left"]


def test_bars_of_tasks_that_end_in_any_order_stop_with_the_last() -> None:
    out = io.StringIO()
    reporter = ConsoleReporter(new_console(file=out, force_terminal=True, color_system=None, width=120))
    first, second = ExitStack(), ExitStack()
    first.enter_context(reporter.task("first of all", 2))
    advance = second.enter_context(reporter.task("second of all", 4))
    first.close()
    reporter.info("a message above the bars")
    advance(3)
    assert "?25h" not in out.getvalue()  # the cursor is still hidden: bars are drawn
    second.close()
    assert "?25h" in out.getvalue()
    assert "3/4" in out.getvalue().rpartition("second of all")[2]
    assert "a message above the bars\n" in out.getvalue()
    with reporter.task("again", 1):
        pass
    assert "again" in out.getvalue()


@pytest.mark.parametrize("installed", [False, True])
def test_a_notebook_has_rich_s_bars_where_ipywidgets_is_installed_and_lines_elsewhere(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "find_spec", lambda _: object() if installed else None)
    clock = Clock()
    shown: list[object] = []
    notebook = new_console(file=io.StringIO(), force_jupyter=True)
    reporter = ConsoleReporter(notebook, clock=clock)
    monkeypatch.setattr(reporter, "info", shown.append)
    assert type(reporter._shown).__name__ == ("_Bars" if installed else "_Lines")


SCRIPT = """
from triptych.console import ConsoleReporter
from triptych.terminal import new_console, new_table
clock = iter(range(0, 10_000, 20))
console = new_console()
reporter = ConsoleReporter(console, clock=lambda: next(clock))
with reporter.task("work", 3) as advance:
    for _ in range(3):
        advance(1)
table = new_table("a title", "name", "number")
table.add_row("a", "1", style="bold red")
console.print(table)
"""


def on_a_terminal(**environment: str) -> str:
    """What the script writes to a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
                os.environ.pop(name, None)
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": "100", **environment})
            os.execv(sys.executable, [sys.executable, "-c", SCRIPT])
        finally:
            os._exit(1)
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        written += part
    assert os.waitpid(pid, 0)[1] == 0, written.decode()
    return written.decode()


def test_a_terminal_has_bars_and_colours() -> None:
    written = on_a_terminal()
    assert MOVES.search(written)
    assert COLOURS.search(written)


def test_no_color_has_no_colours() -> None:
    written = on_a_terminal(NO_COLOR="1")
    assert not COLOURS.search(written)
    assert "3/3" in written


def test_a_dumb_terminal_gets_lines_and_no_escape_sequence() -> None:
    written = on_a_terminal(TERM="dumb")
    assert "\x1b" not in written
    assert "work: 2 of 3 rows" in written
