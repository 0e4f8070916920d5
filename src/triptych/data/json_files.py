"""Raw rows from JSON: one list of objects, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from triptych.data.raw import RawRow, RawStream, decode, describe, lines_of, not_an_object
from triptych.errors import DataError

__all__ = ["parse_json", "parse_jsonl"]


def parse_json(file: IO[bytes], source: str) -> RawStream:
    """Parse a list of objects. The whole file is read at once: a list has no row before it has its end.

    Raises:
        DataError: not UTF-8, not JSON, not a list, or an element that is not an object.
    """
    value = _loads(decode(file.read(), source), source)
    if not isinstance(value, list):
        lists = [key for key, inner in value.items() if isinstance(inner, list)] if isinstance(value, dict) else []
        raise DataError(
            "the JSON is not a list of rows",
            where=source,
            found=describe(value) + (f" with the keys {', '.join(map(repr, value))[:80]}" if lists else ""),
            expected='a list of objects: [{"id": ..., "instruction": ..., "output": ...}, ...]',
            fix=f"keep only the list under {lists[0]!r}" if lists else "put the rows in one list, [ ... ]",
        )
    return _stream(((None, element) for element in value), source)


def parse_jsonl(file: IO[bytes], source: str) -> RawStream:
    """Parse one object a line, as they are asked for; blank lines are skipped.

    Raises:
        DataError: not UTF-8, or a line that is not JSON or not an object.
    """
    # only "\n" ends a line: str.splitlines would also cut at U+2028 and its like, which JSON allows inside a string
    lines = ((line, text.removesuffix("\n")) for line, text in lines_of(iter(file), source) if text.strip())
    return _stream(((line, _loads(text, source, line=line)) for line, text in lines), source)


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


def _stream(elements: Iterable[tuple[int | None, Any]], source: str) -> RawStream:
    columns: dict[str, None] = {}

    def rows() -> Iterator[RawRow]:
        for number, (line, element) in enumerate(elements, 1):
            if not isinstance(element, dict):
                raise not_an_object(element, source, f"row {number}" if line is None else f"line {line}")
            columns.update(dict.fromkeys(element))
            yield RawRow(number, element, line)

    return RawStream(columns, rows())
