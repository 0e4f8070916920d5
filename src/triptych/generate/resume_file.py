"""A file of predictions in the making: a line a row as it is finished, so that a kill at any moment loses no row.

    {"triptych": "predictions", "format": 1, "facts": {…}, "chosen": {…}}    what decides the texts; what was chosen
    {"id": "…", "output": "…", "n_tokens": 31, "stopped_by": "eos", "ids": […]}
    …

A last line that was torn by a kill is removed and its row written again. Two processes can't write one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from triptych.errors import RunChangedError
from triptych.generate.settings import Generated
from triptych.records.disk import disk_errors
from triptych.records.identity import changes
from triptych.records.manifest import claim, remove

_KIND = {"triptych": "predictions", "format": 1}
_SHOWN = 12


def part_of(out: Path) -> Path:
    """Path of the rows of a file of predictions while it is made."""
    return out.with_name(out.name.removesuffix(".json") + ".jsonl.part")


class PartFile:
    """Rows finished so far. Opened by `begin` or `resume`; `add` writes one more."""

    def __init__(
        self, path: Path, file: IO[bytes], runtime_choices: dict[str, Any], known: dict[str, Generated]
    ) -> None:
        self.path, self._file = path, file
        self.runtime_choices = runtime_choices
        """Choices of the process that began it (threads, limits)."""
        self.known = known
        """Rows that were in it when it was opened."""
        self._is_empty = not known

    @classmethod
    def begin(cls, path: Path, facts: Mapping[str, Any], runtime_choices: Mapping[str, Any]) -> PartFile:
        """Start a file with its header; an old one is overwritten.

        Raises:
            DiskError: no room or no right to write.
            RunChangedError: another process is writing it.
        """
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            claim(path)
            file = path.open("ab")
            _take(file, path)
            file.truncate(0)
            _line(file, {**_KIND, "facts": facts, "chosen": runtime_choices})
            os.fsync(file.fileno())
        return cls(path, file, dict(runtime_choices), {})

    @classmethod
    def resume(cls, path: Path, facts: Mapping[str, Any], *, fix: str | None = None) -> PartFile | None:
        """Open a file that was begun with the same facts; None if there is none, or none with a whole header.

        Raises:
            RunChangedError: it was begun with other facts, which are named; or another process is writing it. `fix`:
                how to write the rows anew.
        """
        with disk_errors(path):
            try:
                file = path.open("r+b")
            except FileNotFoundError:
                return None
            _take(file, path)
            values, whole = _whole_lines(file.read())
            header = values[0] if values else None
            if not isinstance(header, dict) or {key: header.get(key) for key in _KIND} != _KIND:
                file.close()
                if whole == 0:  # killed before the header was written: nothing is lost
                    return None
                raise RunChangedError(
                    "this is no file of predictions in the making",
                    where=str(path),
                    fix=fix or "move it away, start over with --fresh, or choose another file with --out",
                )
            try:
                refuse_changed(path, header["facts"], facts, fix=fix)
            except RunChangedError:
                file.close()
                raise
            file.seek(whole)
            file.truncate()
        rows = [Generated(v["id"], v["output"], v["n_tokens"], v["stopped_by"], tuple(v["ids"])) for v in values[1:]]
        return cls(path, file, header["chosen"], {row.row_id: row for row in rows})

    def add(self, row: Generated) -> None:
        """Write a row; it survives a kill right after."""
        self._is_empty = False
        value = {"id": row.row_id, "output": row.text, "n_tokens": row.n_tokens, "stopped_by": row.stopped_by}
        with disk_errors(self.path):
            _line(self._file, {**value, "ids": list(row.ids)})

    def close(self) -> None:
        """Leave the file for a later `resume`; remove one without rows."""
        self._file.close()
        if self._is_empty:
            remove(self.path)


def peek(path: Path) -> dict[str, Any] | None:
    """The header of a file (`facts` and `chosen`); None if there is no file, or no whole header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and "facts" in header else None


def is_part(path: Path) -> bool:
    """Whether a file is one of predictions in the making, also one whose first line was torn by a kill."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError:
        return False
    start = json.dumps({"triptych": _KIND["triptych"]}).encode()[:-1]
    return first.startswith(start) or start.startswith(first)


def refuse_changed(path: Path, held: Mapping[str, Any], facts: Mapping[str, Any], *, fix: str | None = None) -> None:
    """Raise RunChangedError for a file that was made with other facts, and name each difference."""
    if different := changes(held, json.loads(json.dumps(facts))):
        more = [f"… and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
        raise RunChangedError(
            "these predictions were begun with other settings",
            where=str(path),
            found="\n    ".join(["", *different[:_SHOWN], *more]),
            fix=fix or "give the settings they were begun with, another file with --out, or start over with --fresh",
        )


def _line(file: IO[bytes], value: Mapping[str, Any]) -> None:
    file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
    file.flush()


def _whole_lines(content: bytes) -> tuple[list[Any], int]:
    """The JSON of all lines up to the first torn one, and how many bytes these are."""
    values, at = [], 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n") or (value := json.loads(line)) is None:
                break
        except ValueError:
            break
        values.append(value)
        at += len(line)
    return values, at


def _take(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: nothing guards it there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunChangedError(
            "another process is writing these predictions",
            where=str(path),
            fix="wait for it to end, or choose another file with --out",
        ) from error
