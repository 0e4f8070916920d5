"""The SHA-256 of a file, and what the operating system refuses when one is written, as one clear error."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.errors import DiskError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's "no room" and "no right to write" into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM + _NO_PLACE:
            raise
        full = error.errno in _NO_ROOM
        raise DiskError(
            "the disk is full" if full else "this place can't be written to",
            where=str(path),
            found=os.strerror(error.errno),
            fix="free some room and run the same command again: it continues from what is saved"
            if full
            else "choose another folder with --out, or change its permissions",
        ) from error


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
