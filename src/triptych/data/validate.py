"""From raw rows to rows: every row is checked, and the first that can't be used is named by file, position and id."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.data.raw import RawRow, RawTable, describe
from triptych.data.row import Row
from triptych.errors import DataError

__all__ = ["to_rows"]


def to_rows(table: RawTable, source: str, *, need_output: bool) -> list[Row]:
    """Check a table and make its rows; text is kept as it is, to the last space.

    Without an `id` column the ids are "row-1", "row-2", ... by position.

    Raises:
        DataError: no rows, a missing column, a row that lacks a text, or an id that is used twice.
    """
    if not table.rows:
        raise DataError(
            "there are no rows",
            where=source,
            found="an empty list" if not table.columns else "column names and nothing below them",
            expected="at least one row",
            fix="check that this is the right file, and that whatever wrote it finished",
        )
    _check_columns(table, source, need_output=need_output)
    has_ids = "id" in table.columns
    rows = []
    for number, raw in enumerate(table.rows, 1):
        row_id = _id(raw, source) if has_ids else f"row-{number}"
        rows.append(_row(row_id, raw, source, need_output=need_output))
    _check_unique(rows, table.rows, source)
    return rows


def _check_columns(table: RawTable, source: str, *, need_output: bool) -> None:
    needed = ("instruction", "output") if need_output else ("instruction",)
    missing = [name for name in needed if name not in table.columns]
    if not missing:
        return
    only_output = missing == ["output"]
    names = [repr(name)[:40] for name in table.columns[:20]]
    raise DataError(
        f"the column {missing[0]!r} is missing" if len(missing) == 1 else "the columns of a row are missing",
        where=source,
        found=f"the columns {', '.join(names)}" if names else "no columns at all",
        expected=f"the columns {', '.join(map(repr, needed))}, and 'id' if there is one",
        fix="rows to score or train on need outputs; a file without them can only be given to `triptych predict`"
        if only_output
        else "rename the file's columns to these",
    )


def _id(raw: RawRow, source: str) -> str:
    value = raw.values.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value == "":
        raise DataError(
            "a row has no id" if value in (None, "") else "an id is neither text nor a whole number",
            where=f"{source}, {raw.place}",
            found=describe(value) if "id" in raw.values else "no 'id', though other rows have one",
            expected="a string or an integer",
            fix="give every row its own id, or leave the column out: rows are then numbered",
        )
    return _encodable(value, "id", raw, source, None)


def _row(row_id: str, raw: RawRow, source: str, *, need_output: bool) -> Row:
    instruction = _text("instruction", row_id, raw, source)
    if instruction == "":
        raise DataError(
            "an instruction is empty",
            where=f"{source}, {raw.place}, id {row_id!r}",
            found="'' as instruction",
            expected="text",
            fix="fill it in, or remove the row",
        )
    # a row to predict may say null or nothing; an empty output is fine, EOS alone is then scored
    absent = not need_output and raw.values.get("output") is None
    return Row(row_id, instruction, None if absent else _text("output", row_id, raw, source))


def _text(column: str, row_id: str, raw: RawRow, source: str) -> str:
    value = raw.values.get(column)
    if not isinstance(value, str):
        raise DataError(
            f"a row has no {column}" if value is None else f"the {column} of a row is not text",
            where=f"{source}, {raw.place}, id {row_id!r}",
            found=f"{describe(value)} as {column}" if column in raw.values else f"no {column!r} in this row",
            expected="a string",
            fix="fill it in as a string, or remove the row",
        )
    return _encodable(value, column, raw, source, row_id)


def _encodable(text: str, column: str, raw: RawRow, source: str, row_id: str | None) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the {column} of a row holds half a character",
            where=f"{source}, {raw.place}" + (f", id {row_id!r}" if row_id is not None else ""),
            found=f"the lone surrogate \\u{ord(text[error.start]):04x} at character {error.start + 1} of the {column}",
            expected="text that can be written as UTF-8",
            fix="write the whole character there, or remove the row: no tokenizer can read this",
        ) from error
    return text


def _check_unique(rows: Sequence[Row], raw_rows: Sequence[RawRow], source: str) -> None:
    places: dict[str, list[str]] = {}
    for row, raw in zip(rows, raw_rows, strict=True):
        places.setdefault(row.id, []).append(raw.place)
    repeated = {row_id: where for row_id, where in places.items() if len(where) > 1}
    if not repeated:
        return
    named = [_repeat(row_id, where) for row_id, where in list(repeated.items())[:5]]
    rest = f"; and {len(repeated) - 5} more ids" if len(repeated) > 5 else ""
    raise DataError(
        "ids are used more than once" if len(repeated) > 1 else "an id is used more than once",
        where=f"{source}, {next(iter(repeated.values()))[1]}",
        found="; ".join(named) + rest,
        expected="every id once in a file",
        fix="rename or remove the rows that repeat an id, or leave the id column out: rows are then numbered",
    )


def _repeat(row_id: str, places: list[str]) -> str:
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"{row_id!r} in {', '.join(places[:5])}{more}"
