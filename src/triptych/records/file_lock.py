"""Locks of the operating system on a file (`flock`): released when the process that has one ends, killed or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from triptych.records.disk import disk_errors


@contextlib.contextmanager
def file_lock(path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[bool]:
    """Lock a file, which is made if it isn't there, until the end of the block: for this process alone, or shared.

    Yields whether it is locked: False only without `wait`, where another process has it.

    Raises:
        DiskError: the file can't be made.
        OSError: the file system has no locks.
    """
    import fcntl

    with disk_errors(path):
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def can_lock(path: Path) -> bool:
    """Whether files can be locked here: not on Windows, nor on some file systems of networks."""
    try:
        with file_lock(path, exclusive=False):
            return True
    except (ImportError, OSError):
        return False
