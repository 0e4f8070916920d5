"""One writing process a run folder: a second one is refused at once, with the name of the first.

The lock is the operating system's (`flock` on `.triptych.lock`), so it is released when its process ends, however it
ends. The file names the process for the message. Where a file system has no locks, the process that the file names is
looked for instead.
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
from pathlib import Path
from typing import IO, Any

from triptych.errors import RunBusyError
from triptych.records.disk import disk_errors

LOCK_FILE = ".triptych.lock"
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class ProcessLock:
    """The lock of one folder, for this process. Acquiring it twice through one object is acquiring it once.

    Args:
        folder: where the lock is.
        of: one file in the folder, where it is the lock of that file alone.
    """

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
        named = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}"
        since = f", since {owner['since']}" if "since" in owner else ""
        command = f": {owner['command']}" if owner.get("command") else ""
        return RunBusyError(
            "another process is writing this file" if self.of else "another process is working in this folder",
            where=str(self.folder / self.of if self.of else self.folder),
            found=f"{named}{since}{command}",
            expected="one process a file" if self.of else "one process a folder",
            fix=f"wait until it ends, or give another {'file' if self.of else 'folder'} with --out",
        )


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
    except ImportError:  # Windows
        return not _is_alive(_owner(file))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
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
