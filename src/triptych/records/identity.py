"""What a record was made from: the facts that decide its numbers, and one hash over them.

    cells/NAME.json, checkpoints/*/state.json, summary.json, curve.json, adapter/triptych.json, search.json
        "identity"    SHA-256 of the canonical JSON of "made_from"
        "made_from"   the facts themselves, to read and to name a difference by
    run.lock.json
        the facts that the folder's numbers depend on, so that two experiments never mix in one folder; beside them
        what a run chose when it began (`runtime_choices`; the key in the file is `chosen`)

A record is used again only where its identity is the one that is asked for. Library versions are no part of it: they
move numbers by rounding, are kept beside each record, and differences are reported (`version_changes`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych.errors import DataError, RunChangedError
from triptych.records.store import copy_of, put_back, read_json, write_twice

_SHOWN = 12
_HASH = re.compile(r"[0-9a-f]{64}")


def sha256_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class MadeFrom:
    """The facts that decide a record's numbers, as JSON holds them."""

    facts: Mapping[str, Any]

    @cached_property
    def sha256(self) -> str:
        """The record's identity."""
        return sha256_of(self.facts)

    def record(self) -> dict[str, Any]:
        """The two keys that a file stores."""
        return {"identity": self.sha256, "made_from": json.loads(json.dumps(self.facts))}


def require_same(stored: Any, expected: MadeFrom, *, where: str, what: str, fix: str) -> None:
    """Check that a stored record was made from what is asked for.

    Args:
        stored: the file's JSON, with the keys that `MadeFrom.record` writes.
        expected: what it would be made from now.
        where: the file.
        what: the record, as a sentence begins with it, e.g. `this cell`.
        fix: what to do.

    Raises:
        RunChangedError: it was made from something else, which is named; or it does not say from what.
    """
    identity = stored.get("identity") if isinstance(stored, Mapping) else None
    if identity == expected.sha256:
        return
    if identity is None:
        raise RunChangedError(
            f"{what} does not record what it was made from: an earlier version of Triptych wrote it",
            where=where,
            expected=f"identity {expected.sha256[:12]}…",
            fix=f"{fix}; or finish with the version that wrote it",
        )
    facts = stored.get("made_from")
    different = changes(facts, json.loads(json.dumps(expected.facts))) if isinstance(facts, Mapping) else []
    raise RunChangedError(
        f"{what} was made from something else than what is asked for",
        where=where,
        found=_first(different) if different else f"identity {str(identity)[:12]}…",
        expected=f"identity {expected.sha256[:12]}…",
        fix=fix,
    )


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
        raise RunChangedError(
            "this folder was begun with other settings; continuing would mix two experiments",
            where=str(path),
            found=_first(different),
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


def _first(different: list[str]) -> str:
    more = [f"… and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
    return "\n    ".join(["", *different[:_SHOWN], *more])


def _short(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    if _HASH.fullmatch(text):
        return f"sha256 {text[:12]}…"
    return text if len(text) <= 60 else text[:57] + "…"


def version_changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """`torch 2.12.0 -> 2.13.0` for each library that both name and that differs."""
    return [f"{name} {then[name]} -> {now[name]}" for name in now if name in then and then[name] != now[name]]


def joined_versions(several: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The versions of work that several processes did: `2.12.0, 2.13.0` where they differed."""
    by_library: dict[str, dict[str, None]] = {}
    for versions in several:
        for name, version in versions.items():
            by_library.setdefault(name, {}).update(dict.fromkeys(version.split(", ")))
    return {name: ", ".join(every) for name, every in by_library.items()}
