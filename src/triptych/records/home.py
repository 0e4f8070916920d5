"""Names that a user gave, tried as paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

P = TypeVar("P", str, Path, "str | Path")


def at_home(path: P) -> P:
    """The path with a leading `~` or `~name` replaced, as a shell does; a name that is nobody's stays as it is."""
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
