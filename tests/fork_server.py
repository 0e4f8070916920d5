"""Processes to kill, without their start-up: a process with everything imported forks one for each request.

The server reads lines of JSON: {"said": file, ...} forks a child whose output goes to that file, and answers its
process id; {"wait": pid} answers how it ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


class ForkServer:
    """The client: starts a server's script, and asks it for children.

    Args:
        script: a script that calls `serve`.
        folder: where it runs.
    """

    def __init__(self, script: Path, folder: Path | None = None) -> None:
        paths = filter(None, [str(TESTS), str(script.parent), os.environ.get("PYTHONPATH")])
        more = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(paths)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=pipe, stdout=pipe, text=True, env={**os.environ, **more}, cwd=folder
        )
        self._ready = False

    def fork(self, said: Path, **request: Any) -> int:
        """Begin a child; returns its process id. The first waits until the server has imported everything."""
        return self._ask(said=str(said), **request)

    def wait(self, pid: int) -> int:
        """The exit code; below zero, the signal that ended it."""
        return self._ask(wait=pid)

    def close(self) -> None:
        """End the server, which may still be importing if nothing was asked of it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if not self._ready:
            self.process.kill()
        self.process.wait(60)

    def _ask(self, **what: Any) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self._ready:
            assert self.process.stdout.readline().strip() == "ready"
            self._ready = True
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class Commands(ForkServer):
    """Starts `triptych` commands."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(TESTS / "cli" / "command_server.py", folder)

    def start(self, *arguments: object, said: Path) -> int:
        """Begin `triptych ARGUMENTS`; returns the process id. It has a cache of its own, beside the file `said`."""
        return self.fork(said, argv=[str(argument) for argument in arguments], cache=str(said.with_suffix(".cache")))


def serve(work: Callable[..., int]) -> None:
    """The server: answer until stdin ends. `work` takes the request's other values and returns the exit code."""
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            _become(Path(request.pop("said")), partial(work, **request))
        print(answer, flush=True)


def _become(said: Path, work: Callable[[], int]) -> None:
    """Do the work in this process, with its output in a file; never returns."""
    os.nice(5)  # whoever is to kill us at a certain moment must not wait for a core
    with said.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    code = 70
    try:
        code = work()
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
