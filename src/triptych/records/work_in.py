"""Working in a folder: one process at a time, with its manifest open, and a run that was set aside put back first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.records.manifest import Manifest, is_kept, keep
from triptych.records.process_lock import ProcessLock
from triptych.records.set_aside import restore


@contextmanager
def work_in(folder: Path) -> Iterator[Manifest]:
    """Have a folder for this process until the end of the block; inside such a block for the same folder, nothing new.

    The folder is made if it isn't there.

    Raises:
        RunBusyError: another process works in the folder.
        DiskError: it can't be written to.
    """
    if is_kept(folder):
        with keep(folder) as manifest:
            yield manifest
        return
    lock = ProcessLock(folder)
    lock.acquire()
    try:
        restore(folder)
        with keep(folder) as manifest:
            yield manifest
    finally:
        lock.release()
