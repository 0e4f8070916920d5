"""One process a folder: the second is told which, and a dead one is no hindrance."""

from __future__ import annotations

import errno
import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import DiskError, RunBusyError
from triptych.records.process_lock import LOCK_FILE, ProcessLock


def test_the_second_is_told_who_works_here(tmp_path: Path) -> None:
    first, second = ProcessLock(tmp_path / "run"), ProcessLock(tmp_path / "run")
    first.acquire()
    first.acquire()  # the same lock: once is enough
    owner = json.loads((tmp_path / "run" / LOCK_FILE).read_text())
    assert (owner["pid"], owner["host"]) == (os.getpid(), platform.node())
    with pytest.raises(RunBusyError) as caught:
        second.acquire()
    for part in (f"process {os.getpid()} on {platform.node()}, since {owner['since']}: {owner['command']}", "--out"):
        assert part in str(caught.value)
    assert caught.value.exit_code == 2
    first.release()
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    second.acquire()
    second.release()
    second.release()


def test_what_a_killed_process_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 1, "host": platform.node(), "since": "long ago"}))
    lock = ProcessLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_file_that_its_owner_removes_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.records import process_lock

    real, tries = process_lock._lock, []

    def late(file: Any) -> bool:
        if not tries:
            (tmp_path / LOCK_FILE).unlink()  # the owner leaves between our opening and our locking
        tries.append(file)
        return real(file)

    monkeypatch.setattr(process_lock, "_lock", late)
    lock = ProcessLock(tmp_path)
    lock.acquire()
    assert len(tries) == 2
    with pytest.raises(RunBusyError):
        ProcessLock(tmp_path).acquire()
    lock.release()


@pytest.mark.parametrize(
    ("owner", "busy"), [("alive", True), ("dead", False), ("elsewhere", False), ("nobody", False), ("torn", False)]
)
def test_without_locks_the_process_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, busy: bool
) -> None:
    import fcntl

    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    named = {"pid": os.getppid(), "host": platform.node(), "since": "now"}
    named |= {"dead": {"pid": 2**22 + 1}, "elsewhere": {"host": "another"}}.get(owner, {})
    text = {"nobody": "", "torn": '{"pid": '}.get(owner, json.dumps(named))
    (tmp_path / LOCK_FILE).write_text(text)
    lock = ProcessLock(tmp_path)
    if busy:
        with pytest.raises(RunBusyError, match=f"process {os.getppid()}"):
            lock.acquire()
    else:
        lock.acquire()
        lock.release()


def test_a_place_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError):
        ProcessLock(tmp_path / "file").acquire()
