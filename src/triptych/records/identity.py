"""What a record was made from: the facts that decide its numbers, and one hash over them.

    cells/NAME.json, checkpoints/*/state.json, summary.json, curve.json, adapter/triptych.json, search.json
        "identity"    SHA-256 of the canonical JSON of "made_from"
        "made_from"   the facts themselves, to read and to name a difference by

A record is used again only where its identity is the one that is asked for. Library versions are no part of it: they
move numbers by rounding, are kept beside each record, and differences are reported (`version_changes`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from triptych.errors import RunChangedError
from triptych.records.lock import changes

_SHOWN = 8


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
    lines = [*different[:_SHOWN], *([f"… and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else [])]
    raise RunChangedError(
        f"{what} was made from something else than what is asked for",
        where=where,
        found="\n    ".join(["", *lines]) if lines else f"identity {str(identity)[:12]}…",
        expected=f"identity {expected.sha256[:12]}…",
        fix=fix,
    )


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
