"""A row, the unit of data: all that is trained on or scored is a list of these. And raw rows, which the parsers of all
formats make, before they are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from triptych.errors import DataError

_ROW = '{"id": ..., "instruction": ..., "output": ...}'


@dataclass(frozen=True, slots=True)
class Row:
    """One (id, instruction, output).

    `output` is None only in files to predict (the study's private test); such a row can't be scored or trained on.
    """

    id: str
    instruction: str
    output: str | None
    columns: tuple[tuple[str, str], ...] = ()
    """Further columns of the file, (name, value) in the file's order: what reports are cut by and rows are chosen by.
    They never reach a prompt."""

    def column(self, name: str) -> str | None:
        """The value of a further column; None if this row has no such column."""
        return dict(self.columns).get(name)

    def target(self) -> str:
        """The output, for code that has checked the rows are complete."""
        if self.output is None:
            raise ValueError(f"row {self.id!r} has no output")
        return self.output


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it."""

    number: int
    """Its position among the rows, from 1."""
    values: Mapping[str, Any]
    line: int | None = None
    """The line it begins on, from 1, where lines mean something."""

    @property
    def place(self) -> str:
        """For messages: "line 3" where lines mean something, else "row 3"."""
        return f"row {self.number}" if self.line is None else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class RawStream:
    """Rows that are read as they are asked for, once.

    `columns` are those met so far, in order of appearance: a table's are known at once, objects bring their own.
    """

    columns: dict[str, None]
    rows: Iterator[RawRow]
    notes: tuple[str, ...] = ()
    """What the parser has to say about the file as a whole."""


def describe(value: object) -> str:
    """Name a value in an error message: short, and always printable (repr escapes lone surrogates)."""
    if value is None:
        return "null"
    if isinstance(value, dict | list | bytes):
        return {dict: "an object", list: "a list"}.get(type(value), f"a value of type {type(value).__name__}")
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '…'} ({type(value).__name__})"


def decode(content: bytes, source: str, *, offset: int = 0, line: int = 1) -> str:
    """Decode UTF-8 that begins at a byte `offset` and a `line` of the file; a byte order mark at its beginning is
    dropped.

    Raises:
        DataError: the bytes are not UTF-8; the first bad byte's offset is named.
    """
    try:
        # not "utf-8-sig": its error offsets are counted from after the mark
        text = content.decode()
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "BIG5"
        line += content.count(b"\n", 0, error.start)
        raise DataError(
            "the file is not UTF-8",
            where=f"{source}, line {line}",
            found=f"byte 0x{content[error.start]:02x} at byte offset {offset + error.start}: {error.reason}",
            expected="UTF-8 text, with or without a byte order mark",
            fix=f"save it as UTF-8, e.g. `iconv -f {encoding} -t UTF-8 OLD > NEW` with the encoding it really has",
        ) from error
    return text if offset else text.removeprefix("\ufeff")


def lines_of(file: Iterator[bytes], source: str) -> Iterator[tuple[int, str]]:
    r"""Decode a file line by line, each with its number from 1 and its line break; only "\n" ends a line.

    Raises:
        DataError: a line is not UTF-8.
    """
    offset = 0
    for number, line in enumerate(file, 1):
        yield number, decode(line, source, offset=offset, line=number)
        offset += len(line)


def not_an_object(value: object, source: str, place: str) -> DataError:
    """A row that has no named values."""
    return DataError(
        "a row is not an object",
        where=f"{source}, {place}",
        found=describe(value),
        expected=f"an object: {_ROW}",
        fix="if the file is one list over several lines, rename it to .json"
        if place.startswith("line")
        else "make every element of the list an object",
    )
