"""A worker process of `local:N`: prepares the run once, then computes the tasks it is sent.

It ends when the main process closes its pipe, and at once when the main process is gone, killed or not. It writes what
a training or a search writes while it goes on; cells' records go to the main process, which writes them.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import connection, parent_process
from types import FrameType
from typing import Any

from triptych.grid.cells import TrainingSpec
from triptych.progress import Advance
from triptych.records import CurvePoint
from triptych.records.manifest import shared_manifest
from triptych.records.process_lock import as_worker
from triptych.records.provenance import peak_memory
from triptych.runner.executors.messages import (
    Begun,
    Compute,
    CurveGrew,
    Done,
    Failed,
    Logged,
    Message,
    Said,
    Setting,
    TaskAdvanced,
    TaskBegun,
    TaskEnded,
)
from triptych.runner.folder import RunFolder
from triptych.runner.prepare import prepare
from triptych.runner.session import RunContext
from triptych.training import World

Pipe = Any
"""`multiprocessing.connection.Connection`; another class on Windows."""


def work(pipe: Pipe, setting: Setting) -> None:
    """What a worker process runs, from its start to its end."""
    _end_with_the_main_process()
    _leave_the_terminal()
    os.chdir(setting.folder)
    os.environ.update(setting.environment)
    warnings.simplefilter("ignore")  # libraries' warnings: the main process shows those that it wants
    send = _Sender(pipe)
    reporter = _SendingReporter(send)
    try:
        with ExitStack() as stack:
            stack.enter_context(as_worker(setting.out))
            stack.enter_context(shared_manifest(setting.out))
            run = prepare(
                setting.config,
                setting.cells,
                RunFolder(setting.out),
                reporter,
                scores=setting.scores,
                runtime_choices=setting.runtime_choices,
            )
            reporter.quiet = False  # what the preparation says, the main process has said
            logging.getLogger().addHandler(_SendLog(send))
            while (order := _next(pipe)) is not None:
                send(_computed(run, order, send))
    except BaseException as error:
        send(Failed(error, traceback.format_exc()))


def _next(pipe: Pipe) -> Compute | None:
    with suppress(EOFError):
        order: Compute | None = pipe.recv()
        return order
    return None


def _computed(run: RunContext, order: Compute, send: _Sender) -> Done:
    session = run.session
    session.begin_as(order.runtime_choices, order.begun)
    if not session.begun:  # the run's first task: the other workers wait for what is chosen here
        session.load()
        send(Begun(session.runtime_choices, session.begun))

    def on_curve(training: TrainingSpec, points: Sequence[CurvePoint]) -> None:
        send(CurveGrew(training, points))

    return Done(order.task.perform(run, World(), on_curve), peak_memory())


class _Sender:
    """Sends messages, from any thread; after the main process is gone there is nobody to tell."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def __call__(self, message: Message) -> None:
        with self._lock, suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)


class _SendingReporter:
    """A reporter whose progress and messages the main process shows."""

    def __init__(self, send: _Sender) -> None:
        self._send, self._numbers, self.quiet = send, itertools.count(), True

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        """See `progress.Reporter.task`."""
        if self.quiet:
            yield lambda _: None
            return
        number = next(self._numbers)
        self._send(TaskBegun(number, title, total, done, unit))
        try:
            yield lambda units: self._send(TaskAdvanced(number, units))
        finally:
            self._send(TaskEnded(number))

    def info(self, message: str) -> None:
        """See `progress.Reporter.info`."""
        if not self.quiet:
            self._send(Said(message, warning=False))

    def warn(self, message: str) -> None:
        """See `progress.Reporter.warn`."""
        if not self.quiet:
            self._send(Said(message, warning=True))


class _SendLog(logging.Handler):
    """Lines of loggers, to the main process."""

    def __init__(self, send: _Sender) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self._send(Logged(record.name, record.levelno, record.getMessage()))


def _end_with_the_main_process() -> None:
    main = parent_process()
    assert main is not None

    def watch() -> None:
        connection.wait([main.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="triptych-watch-main", daemon=True).start()


def _leave_the_terminal() -> None:
    """Ctrl-C in a terminal reaches the main process alone, which sends SIGTERM; a training finishes its step then."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_signal)
