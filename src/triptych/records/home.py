"""`~` in a path that a user gave: their home folder, as a shell writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

P = TypeVar("P", str, Path, "str | Path")


def at_home(path: P) -> P:
    """The path with a leading `~` or `~name` replaced; a name that is nobody's stays as it is."""
    text = str(path)
    if not text.startswith("~"):
        return path
    try:
        full = Path(text).expanduser()
    except RuntimeError:
        return path
    return full if isinstance(path, Path) else str(full)
