"""Further columns that are read off the instruction: `data.derive: {direction: {to_modern: ["現代", "白話"]}}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.data.row import Row
from triptych.errors import DataError

__all__ = ["Rules", "derive", "unmatched"]

Rules = Mapping[str, Mapping[str, Sequence[str]]]
"""Column -> value -> regular expressions, one of which is found (`re.search`) in the instructions of its rows."""


def derive(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """Give rows the columns of the rules: of each, the first value that matches, or none.

    Raises:
        DataError: an expression is malformed, or the file has a column of that name.
    """
    compiled = {
        name: [(value, [_compiled(name, value, text) for text in texts]) for value, texts in values.items()]
        for name, values in rules.items()
    }
    return [_with_columns(row, compiled) for row in rows]


def unmatched(rows: Sequence[Row], rules: Rules) -> list[tuple[str, str, bool]]:
    """(column, value, whether an earlier value took all the rows it matches) of values that no row has got."""
    got = {(name, row.column(name)) for row in rows for name in rules}
    left = [(name, value) for name, values in rules.items() for value in values if (name, value) not in got]
    return [(name, value, _matches_some(rows, rules[name][value])) for name, value in left]


def _with_columns(row: Row, compiled: Mapping[str, list[tuple[str, list[re.Pattern[str]]]]]) -> Row:
    found = []
    for name, values in compiled.items():
        if row.column(name) is not None:
            raise DataError(
                f"the column {name!r} is both in the file and in data.derive",
                where=f"data.derive.{name}",
                found=f"row {row.id!r} has {row.column(name)!r} there",
                fix=f"give the derived column another name, or remove data.derive.{name} to use the file's",
            )
        value = next((value for value, texts in values if any(text.search(row.instruction) for text in texts)), None)
        if value is not None:
            found.append((name, value))
    return replace(row, columns=(*row.columns, *found)) if found else row


def _compiled(name: str, value: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(
            "a rule of data.derive is not a regular expression",
            where=f"data.derive.{name}.{value}",
            found=f"{text!r}: {error}",
            expected="what Python's re.search takes",
            fix="put a backslash before characters such as ( [ * + ? that are meant as they are",
        ) from error


def _matches_some(rows: Sequence[Row], texts: Sequence[str]) -> bool:
    return any(re.search(text, row.instruction) for text in texts for row in rows)
