"""Raw rows from JSON: one list of objects, or one object a line. A key that an object has twice is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from triptych.data.row import RawRow, RawStream, decode, describe, lines_of, not_an_object
from triptych.errors import DataError

_SPACE = re.compile(r"[ \t\n\r]*")
_TRAILING = "a comma after the last row"
_LINES = "the file has one object on each line, as .jsonl files have: it is read so"


class _TwiceError(ValueError):
    """A key that stands twice in an object."""

    def __init__(self, key: str, first: Any, second: Any) -> None:
        super().__init__(key)
        self.key, self.first, self.second = key, first, second


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise _TwiceError(key, seen[key], value)
        seen[key] = value
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def parse_json(file: IO[bytes], source: str) -> RawStream:
    """Parse a list of objects, an element at a time; or one object a line, which `datasets` and pandas also call .json.

    Raises:
        DataError: not UTF-8, not JSON, not a list, an element that is not an object, or a key that stands twice.
    """
    text = decode(file.read(), source)
    start = _after_space(text, 0)
    first = text[start : start + 1]
    if first == "[":
        return stream_of(_elements(text, start, source), source)
    if first == "{" and _has_lines(text, start):
        lines = ((at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip())
        return stream_of(((at, _line(line, source, at)) for at, line in lines), source, (_LINES,))
    with _json_errors(text, source):
        raise _no_list(json.loads(text), source)


def parse_jsonl(file: IO[bytes], source: str) -> RawStream:
    """Parse one object a line, as they are asked for; blank lines are skipped.

    Raises:
        DataError: not UTF-8, a line that is not JSON or not an object, or a key that stands twice.
    """
    # only "\n" ends a line: str.splitlines would also cut at U+2028 and its like, which JSON allows inside a string
    lines = ((line, text.removesuffix("\n")) for line, text in lines_of(iter(file), source) if text.strip())
    return stream_of(((line, _line(text, source, line)) for line, text in lines), source)


def _has_lines(text: str, start: int) -> bool:
    """Whether the first line is a whole object, and another object begins below it."""
    line, _, rest = text[start : start + (1 << 20)].partition("\n")
    if not rest.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _elements(text: str, start: int, source: str) -> Iterator[tuple[None, Any]]:
    """The elements of the list that begins at `start`."""
    at = _after_space(text, start + 1)
    closed = text.startswith("]", at)
    number = 0
    while not closed:
        number += 1
        if number > 1 and text.startswith("]", at):
            raise _not_json(_TRAILING, text, at, source, None)
        with _json_errors(text, source, row=number, at=at):
            value, at = _DECODER.raw_decode(text, at)
        yield None, value
        at = _after_space(text, at)
        closed = text.startswith("]", at)
        if not closed:
            if not text.startswith(",", at):
                raise _not_json("Expecting ',' delimiter", text, at, source, None)
            at = _after_space(text, at + 1)
    if (end := _after_space(text, at + 1)) < len(text):
        raise _not_json("Extra data", text, end, source, None)


@contextmanager
def _json_errors(text: str, source: str, *, line: int | None = None, row: int = 0, at: int = 0) -> Iterator[None]:
    """Name the file and the place: `text` is its `line`; or all of it, of which the `row` begins `at` a character."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise _not_json(error.msg, text, error.pos, source, line) from error
    except _TwiceError as error:
        place = f"line {line}" if line is not None else f"row {row} (line {text.count(chr(10), 0, at) + 1})"
        raise DataError(
            f"an object has the key {describe(error.key)[:80]} twice",
            where=f"{source}, {place}",
            found=f"{describe(error.first)} and {describe(error.second)}",
            expected="every key once in an object: of two, one would be lost",
            fix="remove one of them, or give it another name",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        raise DataError(
            "this JSON can't be read",
            where=source if line is None else f"{source}, line {line}",
            found=str(error),
            expected="objects with text in them",
            fix="write the file again with plain strings as values",
        ) from error


def _line(text: str, source: str, line: int) -> Any:
    with _json_errors(text, source, line=line):
        return _DECODER.decode(text)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _not_json(message: str, text: str, pos: int, source: str, line: int | None) -> DataError:
    column = pos - text.rfind("\n", 0, pos)
    whole = line is None
    return DataError(
        "this is not JSON",
        where=f"{source}, line {text.count(chr(10), 0, pos) + 1 if whole else line}, column {column}",
        found=f"{message}: {describe(text[pos : pos + 20])}",
        expected="one list of objects" if whole else "one object on each line",
        fix="remove that comma"
        if message == _TRAILING
        else "correct the file there; if it has one object on each line, rename it to .jsonl"
        if whole
        else "correct this line; if the file is one list over several lines, rename it to .json",
    )


def _no_list(value: Any, source: str) -> DataError:
    keys = list(value) if isinstance(value, dict) else []
    lists = [key for key in keys if isinstance(value[key], list)]
    by_column = bool(keys) and all(isinstance(value[key], dict) for key in keys)
    fix = "put the rows in one list, [ ... ]"
    if lists:
        fix = f"keep only the list under {lists[0]!r}"
    elif by_column:
        fix = "write it row by row: with pandas, df.to_json(..., orient='records')"
    named = f" with the keys {', '.join(map(repr, keys))[:80]}" if lists or by_column else ""
    return DataError(
        "the JSON is not a list of rows" + (": it has its values column by column" if by_column else ""),
        where=source,
        found=describe(value) + named,
        expected='a list of objects: [{"id": ..., "instruction": ..., "output": ...}, ...]',
        fix=fix,
    )


def stream_of(elements: Iterable[tuple[int | None, Any]], source: str, notes: tuple[str, ...] = ()) -> RawStream:
    """Parsed elements, each with its line where lines mean something, as raw rows; one that is no object is refused."""
    columns: dict[str, None] = {}

    def rows() -> Iterator[RawRow]:
        for number, (line, element) in enumerate(elements, 1):
            if not isinstance(element, dict):
                raise not_an_object(element, source, f"row {number}" if line is None else f"line {line}")
            columns.update(dict.fromkeys(element))
            yield RawRow(number, element, line)

    return RawStream(columns, rows(), notes)
