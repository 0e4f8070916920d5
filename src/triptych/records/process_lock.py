"""One writing process a run folder: a second one is refused at once, with the name of the first.

The lock is the operating system's (`flock` on `.triptych.lock`), so it is released when its process ends, killed or
not. The file names the process for the message. On a file system without locks, the process of that name is looked for.

A run's worker processes hold `.workers.lock` together (`as_worker`): they outlive a main process that was killed by a
moment, and whoever works in the folder next waits for that.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from triptych.errors import RunBusyError
from triptych.records.disk import disk_errors
from triptych.records.file_lock import can_lock, file_lock
from triptych.records.manifest import MANIFEST_LOCK, Manifest, is_open, open_manifest
from triptych.records.set_aside import restore

LOCK_FILE = ".triptych.lock"
WORKERS_LOCK = ".workers.lock"
_BESIDE = (MANIFEST_LOCK, WORKERS_LOCK)
LOCK_FILES = (LOCK_FILE, *_BESIDE)
"""What a folder has of this module while a run works there."""
_WAIT = 10.0
"""Seconds that workers of a killed process are waited for."""
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class ProcessLock:
    """The lock of one folder, or `of` one file in it, for this process. Acquiring it again does nothing."""

    def __init__(self, folder: Path, of: str | None = None) -> None:
        self.folder, self.of = folder, of
        self.path = folder / (f".{of}.lock" if of else LOCK_FILE)
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the lock, or say which process has it. Makes the folder if it isn't there.

        Raises:
            RunBusyError: another process has it.
            DiskError: the folder can't be written to.
        """
        while self._file is None:
            with disk_errors(self.path):
                self.folder.mkdir(parents=True, exist_ok=True)
                file = self.path.open("a+b")
            try:
                if not _lock(file):
                    raise self._busy(_owner(file))
                if not _is_at(file, self.path):  # its owner removed it after this process opened it
                    file.close()
                    continue
                with disk_errors(self.path):
                    file.truncate(0)
                    file.write(json.dumps(_this_process(), ensure_ascii=False).encode() + b"\n")
                    file.flush()
            except BaseException:
                file.close()
                raise
            self._file = file

    def release(self) -> None:
        """Let another process work in the folder. Does nothing where the lock was not taken."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()  # while it is locked: a process that opened it meanwhile sees that it is gone
        self._file.close()
        self._file = None

    def _busy(self, owner: dict[str, Any]) -> RunBusyError:
        kind, since = "file" if self.of else "folder", f", since {owner['since']}" if "since" in owner else ""
        command = f": {owner['command']}" if owner.get("command") else ""
        return RunBusyError(
            f"another process is {'writing this file' if self.of else 'working in this folder'}",
            where=str(self.folder / (self.of or "")),
            found=f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}{since}{command}",
            expected=f"one process a {kind}",
            fix=f"wait until it ends, or give another {kind} with --out",
        )


@contextlib.contextmanager
def work_in(folder: Path) -> Iterator[Manifest]:
    """Lock a folder for this process until the end of the block, with its manifest open; made if it isn't there.

    A run that was set aside is put back first. Inside such a block for the same folder, nothing happens.

    Raises:
        RunBusyError: another process works in the folder.
        DiskError: it can't be written to.
    """
    if is_open(folder):
        with open_manifest(folder) as manifest:
            yield manifest
        return
    lock = ProcessLock(folder)
    lock.acquire()
    try:
        _wait_for_workers(folder)
        restore(folder)
        with open_manifest(folder) as manifest:
            yield manifest
    finally:
        for name in _BESIDE:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        lock.release()


def as_worker(folder: Path) -> contextlib.AbstractContextManager[bool]:
    """Mark this process as a worker of the run in this folder, until the end of the block."""
    return file_lock(folder / WORKERS_LOCK, exclusive=False)


def _wait_for_workers(folder: Path) -> None:
    """Wait until no worker of an earlier run is left in the folder.

    Raises:
        RunBusyError: one is left after `_WAIT` seconds.
    """
    if not (folder / WORKERS_LOCK).exists() or not can_lock(folder / WORKERS_LOCK):
        return
    until = time.monotonic() + _WAIT
    while True:
        with file_lock(folder / WORKERS_LOCK, exclusive=True, wait=False) as free:
            if free:
                return
        if time.monotonic() > until:
            raise RunBusyError(
                "worker processes of an earlier run are still working in this folder",
                where=str(folder / WORKERS_LOCK),
                found=f"no end of them in {_WAIT:.0f} s",
                fix="end them, and run the same command again",
            )
        time.sleep(0.05)


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _owner(file: IO[bytes]) -> dict[str, Any]:
    """The process that the file names; empty where it names none, or is being written right now."""
    file.seek(0)
    try:
        value = json.loads(file.read())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process has it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError) as error:  # Windows has no fcntl
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        return not _is_alive(_owner(file))
    return True


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that a file names runs, as far as can be seen: of another machine, nothing can."""
    import psutil

    if owner.get("host") != platform.node() or not isinstance(owner.get("pid"), int):
        return False
    return owner["pid"] != os.getpid() and psutil.pid_exists(owner["pid"])


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
