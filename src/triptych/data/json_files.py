"""Raw rows from JSON: one list of objects, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from triptych.data.raw import RawRow, RawTable, decode, describe
from triptych.errors import DataError

__all__ = ["parse_json", "parse_jsonl"]


def parse_json(content: bytes, source: str) -> RawTable:
    """Parse a list of objects.

    Raises:
        DataError: not UTF-8, not JSON, not a list, or an element that is not an object.
    """
    value = _loads(decode(content, source), source)
    if not isinstance(value, list):
        lists = [key for key, inner in value.items() if isinstance(inner, list)] if isinstance(value, dict) else []
        raise DataError(
            "the JSON is not a list of rows",
            where=source,
            found=describe(value) + (f" with the keys {', '.join(map(repr, value))[:80]}" if lists else ""),
            expected='a list of objects: [{"id": ..., "instruction": ..., "output": ...}, ...]',
            fix=f"keep only the list under {lists[0]!r}" if lists else "put the rows in one list, [ ... ]",
        )
    return _from_objects(((f"row {number}", element) for number, element in enumerate(value, 1)), source)


def parse_jsonl(content: bytes, source: str) -> RawTable:
    """Parse one object a line; blank lines are skipped.

    Raises:
        DataError: not UTF-8, or a line that is not JSON or not an object.
    """
    # str.splitlines would also cut at U+2028 and its like, which JSON allows inside a string
    lines = enumerate(decode(content, source).split("\n"), 1)
    objects = ((f"line {number}", _loads(line, source, line=number)) for number, line in lines if line.strip())
    return _from_objects(objects, source)


def _loads(text: str, source: str, *, line: int | None = None) -> Any:
    """Parse the whole file, or with `line` the one line of it that `text` is."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            "this is not JSON",
            where=f"{source}, line {line or error.lineno}, column {error.colno}",
            found=f"{error.msg}: {describe(text[error.pos : error.pos + 20])}",
            expected="one list of objects" if line is None else "one object on each line",
            fix="mend the file there; if it has one object on each line, rename it to .jsonl"
            if line is None
            else "mend this line; if the file is one list over several lines, rename it to .json",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        raise DataError(
            "this JSON can't be read",
            where=source if line is None else f"{source}, line {line}",
            found=str(error),
            expected="objects with text in them",
            fix="write the file again with plain strings as values",
        ) from error


def _from_objects(elements: Iterable[tuple[str, Any]], source: str) -> RawTable:
    columns: dict[str, None] = {}
    rows = []
    for place, element in elements:
        if not isinstance(element, dict):
            raise DataError(
                "a row is not an object",
                where=f"{source}, {place}",
                found=describe(element),
                expected='an object: {"id": ..., "instruction": ..., "output": ...}',
                fix="if the file is one list over several lines, rename it to .json"
                if place.startswith("line")
                else "make every element of the list an object",
            )
        columns.update(dict.fromkeys(element))
        rows.append(RawRow(place, element))
    return RawTable(tuple(columns), rows)
