"""`triptych run --on local:2` killed at any moment, workers or main process: the same command ends as undisturbed."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from fork_server import Commands
from triptych.records.process_lock import LOCK_FILE, WORKERS_LOCK

WEIGHTS = "adapter/adapter_model.safetensors"
Numbers = Callable[[Path], Any]


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    made = Commands()
    yield made
    made.close()


def workers_of(out: Path) -> list[int]:
    """Process ids of all workers that the log names and that are alive."""
    log = out / "run.log"
    pids = re.findall(r"worker \d+ is process (\d+)", log.read_text(encoding="utf-8")) if log.exists() else []
    return [int(pid) for pid in pids if alive(int(pid))]


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.002)


@pytest.mark.slow
def test_workers_end_with_a_main_process_that_was_killed_and_the_same_command_goes_on(
    commands: Commands, finished: Any, tmp_path: Path, numbers: Numbers
) -> None:
    project, whole, _ = finished
    out, said = tmp_path / "run", tmp_path / "said.txt"
    command = ("run", project.config, "--out", out, "--on", "local:2")
    main = commands.start(*command, said=said)
    until(lambda: bool(list((out / "cells").glob("*.json"))))
    workers = workers_of(out)
    assert workers

    other = tmp_path / "other.txt"
    assert commands.wait(commands.start(*command, said=other)) == 2  # two main processes in one folder
    assert f"process {main} on " in other.read_text(encoding="utf-8")

    os.kill(main, signal.SIGKILL)
    assert commands.wait(main) == -signal.SIGKILL
    until(lambda: not any(map(alive, workers)), seconds=2.0)
    assert commands.wait(commands.start(*command, said=said)) == 0, said.read_text(encoding="utf-8")
    assert numbers(out) == numbers(whole)
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert not [name for name in (LOCK_FILE, WORKERS_LOCK) if (out / name).exists()]
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_workers_the_main_process_and_both_killed_at_ten_moments(
    commands: Commands, finished: Any, tmp_path: Path, numbers: Numbers
) -> None:
    project, whole, _ = finished
    out, said = tmp_path / "run", tmp_path / "said.txt"
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    drawn = random.Random(seed)
    command = ("run", project.config, "--out", out, "--on", "local:2")
    main: int | None = None
    kills = 0
    while kills < 10:
        if main is None:
            main = commands.start(*command, said=said)
            until(lambda main=main, out=out: bool(workers_of(out)) or not alive(main))
        time.sleep(drawn.uniform(0, 1.5))
        workers, whom = workers_of(out), ("worker", "main", "both")[kills % 3]
        if not alive(main):  # it was done
            assert commands.wait(main) == 0, said.read_text(encoding="utf-8")
            main, out = None, tmp_path / f"run-{kills}"
            command = (*command[:3], out, *command[4:])
            continue
        if whom != "main" and workers:
            with suppress(ProcessLookupError):
                os.kill(drawn.choice(workers), signal.SIGKILL)
        if whom != "worker":
            os.kill(main, signal.SIGKILL)
            commands.wait(main)
            main = None
            until(lambda workers=workers: not any(map(alive, workers)), seconds=2.0)
        kills += 1
    if main is not None and commands.wait(main) != 0:
        assert "in the last of 3 tries" in said.read_text(encoding="utf-8")
    assert commands.wait(commands.start(*command, said=said)) == 0, said.read_text(encoding="utf-8")
    assert numbers(out)["cells"] == numbers(whole)["cells"]
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("local:0", "`local:N` with N processes on this machine, 1 to 1024"),
        ("local:", "this is no executor"),
        ("local:-1", "this is no executor"),
        ("locale:2", "this is no executor"),
        ("local:99999", "this is no executor"),
        ("ray", "this is no executor"),
    ],
)
def test_what_is_no_executor_is_refused(given: str, expected: str, project: Any, triptych: Any, tmp_path: Path) -> None:
    done = triptych("run", project.config, "--out", tmp_path / "run", "--on", given)
    assert done.code == 2
    assert expected in done.err
    assert "where: --on" in done.err
    assert f"found: {given}" in done.err
    assert not (tmp_path / "run").exists()


def test_more_processes_than_memory_holds(
    project: Any, triptych: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.runner.executors import choose

    monkeypatch.setattr(choose, "free_memory", lambda _: 3_000_000_000)
    done = triptych("run", project.config, "--out", tmp_path / "run", "--on", "local:500")
    assert done.code == 2
    assert re.search(r"at most local:\d+: 3\.0 GB are free, and one takes about \d\.\d GB", done.err)
    fit = re.search(r"give --on (local:\d+)", done.err)
    assert fit
    assert not (tmp_path / "run" / "cells").exists()
