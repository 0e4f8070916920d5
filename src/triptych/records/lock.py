"""A folder's lock: the facts its numbers depend on, so that two experiments never mix in one folder.

Beside them it holds what a run chose when it began (`runtime_choices`; the key in the file is `chosen`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.errors import DataError, RunChangedError
from triptych.records.copies import copy_of, put_back, write_twice
from triptych.records.store import read_json

_SHOWN = 12
_HASH = re.compile(r"[0-9a-f]{64}")


def check_lock(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the lock, or check that the facts are those it holds. Returns all that the lock holds.

    The lock may hold more keys than `facts`, such as `chosen`; only those in `facts` are compared.

    Raises:
        RunChangedError: something that decides a number is different now; the difference is shown.
    """
    put_back(path)
    if not path.exists():
        write_twice(path, facts)
        return dict(facts)
    try:
        locked = read_json(path)
    except DataError as error:
        raise RunChangedError(
            "the folder's lock is torn, so what its numbers were made with is unknown",
            where=str(path),
            found=error.found,
            fix=f"put {copy_of(path).name} or a copy of your own in its place; or give another folder with --out; "
            "--fresh starts over and removes what was computed here",
        ) from error
    different = changes({key: locked.get(key) for key in facts}, facts)
    if different:
        more = [f"… and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
        raise RunChangedError(
            "this folder was begun with other settings; continuing would mix two experiments",
            where=str(path),
            found="\n    ".join(["", *different[:_SHOWN], *more]),
            fix="give the settings it was begun with, or another folder with --out, or start over with --fresh",
        )
    return dict(locked)


def changes(old: Any, new: Any, at: str = "") -> list[str]:
    """What is different between two nested values, one line each: `key: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted({*old, *new}):
            lines += changes(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
        return lines
    same = list(old) == list(new) if isinstance(old, list | tuple) and isinstance(new, list | tuple) else old == new
    return [] if same else [f"{at}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    if _HASH.fullmatch(text):
        return f"sha256 {text[:12]}…"
    return text if len(text) <= 60 else text[:57] + "…"
