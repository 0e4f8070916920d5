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
from triptych.records import process_lock
from triptych.records.manifest import Manifest, claim, open_manifest, shared_manifest
from triptych.records.process_lock import LOCK_FILE, WORKERS_LOCK, ProcessLock, as_worker, work_in


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


@pytest.mark.parametrize("name", [LOCK_FILE, WORKERS_LOCK])
def test_locks_that_a_killed_run_left_stop_nobody_where_nothing_can_be_locked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    (tmp_path / name).write_text("", encoding="utf-8")
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with work_in(tmp_path):
        pass
    assert not list(tmp_path.glob(".*lock"))


def test_workers_of_a_killed_run_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_lock, "_WAIT", 0.1)
    with (
        as_worker(tmp_path),
        pytest.raises(RunBusyError, match="worker processes of an earlier run"),
        work_in(tmp_path),
    ):
        pass
    with work_in(tmp_path):
        pass


def test_what_another_process_noted_meanwhile_stays_noted(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as ours:
        Manifest(ours.folder, {"cells/other.json": []}).save()  # another process, after this one read the manifest
        with shared_manifest(tmp_path):
            claim(tmp_path / "curve.json")
            Manifest(ours.folder, {**ours.files, "log.jsonl": []}).save()
            claim(tmp_path / "summary.json")
        assert set(ours.files) == {"cells/other.json", "curve.json", "log.jsonl", "summary.json"}
    read = Manifest.read(ours.folder)
    assert read is not None
    assert read.files == ours.files
