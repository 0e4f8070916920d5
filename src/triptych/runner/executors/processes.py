"""Starts processes that have a pipe to this one: by Python's fork server, where there is one, so they share imports.

The server imports what workers need (`start_server`) on another core while this process goes on. A new process does
not run the caller's script again, as `multiprocessing` would have it, and its libraries have one thread.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_PRELOADED = "triptych.runner.executors.worker"


def start_server() -> None:
    """Begin to import what workers need. Does nothing where every process imports for itself."""
    context = _context()
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        with _environment():
            context.set_forkserver_preload([_PRELOADED])
            forkserver.ensure_running()


def start_process(target: Callable[..., None], *arguments: Any, name: str) -> tuple[Any, Any]:
    """Start a process that runs `target(pipe, *arguments)`: the process, and this end of the pipe.

    The target is a function of a module; it and its arguments are pickled. The process ends with this one.
    """
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
    with _without_main(), _environment():
        process.start()
    theirs.close()
    return process, ours


def _context() -> Any:
    """macOS's libraries don't survive a fork, so every process there starts from nothing."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods and sys.platform == "linux" else "spawn")


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep a new process from importing the caller's script: it imports what it needs by name."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """The environment of new processes, in this one for as long as it takes to start them.

    torch's threads are set when a model is loaded; the tokenizers' don't survive a fork.
    """
    ours = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
