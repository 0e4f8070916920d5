"""Raw rows: what the parsers of all formats hand on, before anyone has asked whether a row is usable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triptych.errors import DataError

__all__ = ["RawRow", "RawTable", "decode", "describe"]


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the file has it. `place` is "line 3" where lines mean something, else "row 3", counted from 1."""

    place: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RawTable:
    """The columns met anywhere in the file, in order of appearance, and the rows."""

    columns: tuple[str, ...]
    rows: list[RawRow]


def describe(value: object) -> str:
    """Name a value in an error message: short, and printable whatever is in it (repr escapes lone surrogates)."""
    if value is None:
        return "null"
    if isinstance(value, dict | list | bytes):
        return {dict: "an object", list: "a list"}.get(type(value), f"a value of type {type(value).__name__}")
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '…'} ({type(value).__name__})"


def decode(content: bytes, source: str) -> str:
    """Decode UTF-8, dropping a byte order mark.

    Raises:
        DataError: the bytes are not UTF-8; the first bad byte's offset is named.
    """
    try:
        # not "utf-8-sig": its error offsets are counted from after the mark
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "BIG5"
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            "the file is not UTF-8",
            where=f"{source}, line {line}",
            found=f"byte 0x{content[error.start]:02x} at byte offset {error.start}: {error.reason}",
            expected="UTF-8 text, with or without a byte order mark",
            fix=f"save it as UTF-8, e.g. `iconv -f {encoding} -t UTF-8 OLD > NEW` with the encoding it really has",
        ) from error
