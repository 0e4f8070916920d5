"""Files as the system has them: `~` in a path, reading up to a limit, SHA-256, and a refused write as one error."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from triptych.errors import DiskError

P = TypeVar("P", str, Path, "str | Path")

LARGEST = 250_000
"""Bytes of a configuration or a template. A megabyte of YAML can take its parser ten seconds."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)


class TooLargeError(ValueError):
    """A file is larger than any of its kind."""


def at_home(path: P) -> P:
    """The path with a leading `~` or `~name` replaced by the home folder; the name of no user stays as it is."""
    text = str(path)
    if not text.startswith("~"):
        return path
    try:
        full = Path(text).expanduser()
    except RuntimeError:
        return path
    return full if isinstance(path, Path) else str(full)


def is_there(name: str | Path, kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether there is such a path, of this kind (`Path.is_dir`); a name that can be no path is not there."""
    try:
        return kind(Path(name))
    except (OSError, ValueError):  # too long for the file system, in a closed folder, or with a NUL in it
        return False


def read_small(path: Path, *, encoding: str = "utf-8") -> str:
    """The text of a file that a person wrote; no more than the limit is read, of a pipe or a device too.

    Raises:
        TooLargeError: it is longer.
        OSError: it can't be read.
        UnicodeDecodeError: it is no text.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        size = path.stat().st_size
        raise TooLargeError(f"{max(size, len(content)):,} bytes or more, and at most {LARGEST:,} are read")
    return content.decode(encoding)


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
