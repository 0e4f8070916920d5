"""From raw rows to rows: every row is checked, and the first that can't be used is named by file, position and id."""

from __future__ import annotations

import itertools
import json
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from triptych.data.conversations import Unusable, from_turns, may_be_turns, parse_json_list
from triptych.data.layouts import Layout, choose_layout
from triptych.data.notes import Notes
from triptych.data.row import RawRow, RawStream, Row, describe
from triptych.errors import DataError

_HEAD = 1000
"""Rows that the layout is recognized by."""
_KEPT = 100_000
"""Different values of further columns that are kept once instead of once a row."""
_MAY_BE_ASKED = frozenset({
    *("system", "tools", "functions", "history", "context", "passage", "choices", "options", "messages", "images"),
    *("conversations", "conversation", "image", "videos", "audios", "reasoning", "reasoning_content", "thinking"),
    *("chosen", "rejected", "prompt", "question", "query"),
})  # fmt: skip
"""Columns that others put into a prompt or an answer: where they are not used a note says so."""


def to_rows(
    stream: RawStream,
    source: str,
    *,
    need_output: bool,
    to_answer: bool,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Row], Layout, tuple[str, ...]]:
    """Recognize the layout by the first rows, check every row and make it; text is kept as it is, to the last space.

    Without ids the rows are "row-1", "row-2", ... by position. Further columns with text, numbers, true or false are
    kept as text. What is left out, or read in a particular way, is counted; the third value are these notes.

    Raises:
        DataError: no rows, columns that are not known, a row that lacks a text, or an id that is used twice.
    """
    head = list(itertools.islice(stream.rows, _HEAD))
    if not head:
        raise DataError(
            "there are no rows",
            where=source,
            found="an empty list" if not stream.columns else "column names and nothing below them",
            expected="at least one row",
            fix="check that this is the right file, and that whatever wrote it finished",
        )
    layout = choose_layout(tuple(stream.columns), head, source, need_output=need_output, given=columns)
    notes = Notes(stream.notes)
    make = _Maker(layout, source, notes, need_output=need_output, to_answer=to_answer)
    rows, numbers, lines = [], array("q"), array("q")
    for raw in itertools.chain(head, stream.rows):
        rows.append(make.row(raw))
        numbers.append(raw.number)
        lines.append(raw.line or 0)
    if layout.id is not None:
        _check_unique(rows, numbers, lines, source)
    elif "id" in stream.columns:
        raise DataError(
            "some rows have an id and some have none",
            where=source,
            found=f"no 'id' in the first {len(head)} rows",
            expected="an 'id' in every row, or in none",
            fix="give every row its own id, or leave the column out: rows are then numbered",
        )
    return rows, layout, notes.said()


class _Maker:
    """Makes the rows of one file."""

    def __init__(self, layout: Layout, source: str, notes: Notes, *, need_output: bool, to_answer: bool) -> None:
        self.layout, self.source, self.notes = layout, source, notes
        self.need_output, self.to_answer = need_output, to_answer
        self.used = layout.used
        self.kept: dict[tuple[str, str], tuple[str, str]] = {}

    def row(self, raw: RawRow) -> Row:
        row_id = f"row-{raw.number}" if self.layout.id is None else self._id(raw, self.layout.id)
        instruction, output = self._texts(raw, row_id)
        if instruction == "":
            raise self._wrong("an instruction is empty", raw, row_id, "'' as instruction", "text", "fill it in")
        return Row(row_id, instruction, output, self._further(raw.values))

    def _texts(self, raw: RawRow, row_id: str) -> tuple[str, str | None]:
        layout, values = self.layout, raw.values
        asks = values.get(layout.instruction) if layout.instruction else None
        if layout.turns is not None or (isinstance(asks, list) and layout.instruction == "prompt"):
            return self._from_turns(raw, row_id)
        if isinstance(values.get("history"), list) and values["history"]:
            problem = "a row has a history, which this layout can't use"
            found = describe(values["history"])
            raise self._wrong(problem, raw, row_id, found, "no history", "write the turns as `messages`")
        instruction = self._text("instruction", layout.instruction, raw, row_id)
        more = values.get(layout.input) if layout.input else None
        if more not in (None, ""):
            instruction += "\n" + self._text("input", layout.input, raw, row_id)
        if instruction and (system := self._system(raw, row_id)):
            instruction = f"{system}\n\n{instruction}"
        # a row to predict may say null or nothing; an empty output is fine, EOS alone is then scored
        absent = not self.need_output and (layout.output is None or values.get(layout.output) is None)
        return instruction, None if absent else self._text("output", layout.output, raw, row_id)

    def _from_turns(self, raw: RawRow, row_id: str) -> tuple[str, str | None]:
        layout, values = self.layout, raw.values
        turns: Any = values.get(layout.turns) if layout.turns else None
        if layout.turns is None:  # a prompt and a completion that are lists of turns
            before, after = values.get(layout.instruction or ""), values.get(layout.output or "")
            turns = [*before, *(after if isinstance(after, list) else [])] if isinstance(before, list) else before
        system = self._system(raw, row_id)
        try:
            if layout.turns is not None and isinstance(turns, str) and may_be_turns(turns):
                turns = parse_json_list(turns, layout.turns)
                self.notes.json_text[layout.turns] += 1
            instruction, output = from_turns(
                turns, self.notes, need_output=self.need_output, to_answer=self.to_answer, system=system
            )
        except Unusable as error:
            expected = "turns of text, each {role, content} or {from, value}, the last of them the assistant's"
            raise self._wrong(error.what, raw, row_id, error.found, expected, "correct it") from error
        place = f"{self.source}, {raw.place}"
        instruction = _encodable(instruction, "instruction", place, row_id)
        return instruction, None if output is None else _encodable(output, "output", place, row_id)

    def _id(self, raw: RawRow, column: str) -> str:
        value = raw.values.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or value == "":
            raise DataError(
                "a row has no id" if value in (None, "") else "an id is neither text nor a whole number",
                where=f"{self.source}, {raw.place}",
                found=describe(value) if column in raw.values else f"no {column!r}, though other rows have one",
                expected="a string or an integer",
                fix="give every row its own id, or leave the column out: rows are then numbered",
            )
        return _encodable(value, "id", f"{self.source}, {raw.place}", None)

    def _system(self, raw: RawRow, row_id: str) -> str:
        column = self.layout.system
        if column is None or raw.values.get(column) in (None, ""):
            return ""
        self.notes.system[column] += 1
        return self._text("system text", column, raw, row_id)

    def _text(self, part: str, column: str | None, raw: RawRow, row_id: str) -> str:
        value = raw.values.get(column) if column is not None else None
        if part == "output" and (isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))):
            value = json.dumps(value)
            self.notes.numbers.append(value)
        if not isinstance(value, str):
            problem = f"a row has no {part}" if value is None else f"the {part} of a row is not text"
            found = f"{describe(value)} as {part}" if column in raw.values else f"no {column!r} in this row"
            raise self._wrong(problem, raw, row_id, found, "a string", "fill it in as a string")
        return _encodable(value, part, f"{self.source}, {raw.place}", row_id)

    def _further(self, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        if len(values) <= len(self.used) and values.keys() <= self.used:
            return ()
        further = []
        for name, value in values.items():
            if name in self.used:
                continue
            text = _plain(value)
            if text is not None:
                pair = _safe(name), _safe(text)
                further.append(
                    self.kept.setdefault(pair, pair) if len(self.kept) < _KEPT else self.kept.get(pair, pair)
                )
                if text and name in _MAY_BE_ASKED:
                    self.notes.not_in_prompt[name] += 1
            elif value not in (None, [], {}, b""):
                self.notes.left_out[name] += 1
        return tuple(further)

    def _wrong(self, what: str, raw: RawRow, row_id: str, found: str, expected: str, fix: str) -> DataError:
        where = f"{self.source}, {raw.place}, id {row_id!r}"
        return DataError(what, where=where, found=found, expected=expected, fix=f"{fix}, or remove the row")


def _plain(value: Any) -> str | None:
    """A further column's value as text, a list of texts as JSON; None for what is none, other lists, objects, bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return json.dumps(value, ensure_ascii=False)  # a row's own options (`data.choices`)
    if value is None or isinstance(value, list | dict | tuple | bytes):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _safe(text: str) -> str:
    """Further columns are only shown: half a character in one is no reason to refuse the row."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _encodable(text: str, part: str, place: str, row_id: str | None) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the {part} of a row holds half a character",
            where=place + (f", id {row_id!r}" if row_id is not None else ""),
            found=f"the lone surrogate \\u{ord(text[error.start]):04x} at character {error.start + 1} of the {part}",
            expected="text that can be written as UTF-8",
            fix="write the whole character there, or remove the row: no tokenizer can read this",
        ) from error
    return text


def _check_unique(rows: Sequence[Row], numbers: Sequence[int], lines: Sequence[int], source: str) -> None:
    if len({row.id for row in rows}) == len(rows):
        return
    places: dict[str, list[str]] = {}
    for row, number, line in zip(rows, numbers, lines, strict=True):
        places.setdefault(row.id, []).append(f"line {line}" if line else f"row {number}")
    repeated = {row_id: where for row_id, where in places.items() if len(where) > 1}
    named = [
        f"{row_id!r} in {', '.join(where[:5])}" + (f" and {len(where) - 5} more" if len(where) > 5 else "")
        for row_id, where in itertools.islice(repeated.items(), 5)
    ]
    rest = f"; and {len(repeated) - 5} more ids" if len(repeated) > 5 else ""
    raise DataError(
        "ids are used more than once" if len(repeated) > 1 else "an id is used more than once",
        where=f"{source}, {next(iter(repeated.values()))[1]}",
        found="; ".join(named) + rest,
        expected="every id once in a file",
        fix="rename or remove the rows that repeat an id, or leave the id column out: rows are then numbered",
    )
