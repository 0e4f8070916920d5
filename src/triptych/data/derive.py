"""Further columns that are read off the instruction: `data.derive: {direction: {to_modern: ["現代", "白話"]}}`.

Some expressions take time that doubles with every character, `(a+)+b` among them. Python's `re` can't be stopped then,
so the search is done by the package `regex`, which finds the same and takes a time limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.config.data import compile_rule
from triptych.data.row import Row
from triptych.errors import DataError

Rules = Mapping[str, Mapping[str, Sequence[str]]]
"""Column -> value -> regular expressions, one of which is found (`re.search`) in the instructions of its rows."""

_SECONDS, _SECONDS_A_ROW = 5.0, 0.001
"""A file's rules may take the first, and the second for each of its rows."""


@dataclass
class _Expression:
    """A rule's expression; `left` is the time that all of the file's have left, in a list of one."""

    key: str
    """Column and value, as `data.derive` has them."""
    compiled: Any
    left: list[float]

    def found_in(self, row: Row) -> bool:
        begin = time.monotonic()
        try:
            return self.compiled.search(row.instruction, timeout=max(0.01, self.left[0])) is not None
        except TimeoutError as error:
            raise DataError(
                "a rule of data.derive takes too long",
                where=f"data.derive.{self.key}",
                found=f"{self.compiled.pattern[:80]!r} was not through with row {row.id!r} "
                f"({len(row.instruction)} characters)",
                expected=f"{_SECONDS:g} s and {1000 * _SECONDS_A_ROW:g} ms a row at most, for all rules of a file",
                fix="write it without a repetition inside a repetition, such as (a+)+ or (.*)*",
            ) from error
        finally:
            self.left[0] -= time.monotonic() - begin


def derive(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """Give rows the columns of the rules: of each, the first value that matches, or none.

    Raises:
        DataError: an expression is malformed or takes too long, or the file has a column of that name.
    """
    compiled = _compiled(rules, len(rows))
    return [_with_columns(row, compiled) for row in rows]


def unmatched(rows: Sequence[Row], rules: Rules) -> list[tuple[str, str, bool]]:
    """(column, value, whether an earlier value took all the rows it matches) of values that no row has got."""
    got = {(name, row.column(name)) for row in rows for name in rules}
    left = [(name, value) for name, values in rules.items() for value in values if (name, value) not in got]
    compiled = _compiled(rules, len(rows))
    return [
        (name, value, any(text.found_in(row) for text in dict(compiled[name])[value] for row in rows))
        for name, value in left
    ]


def _with_columns(row: Row, compiled: Mapping[str, list[tuple[str, list[_Expression]]]]) -> Row:
    found = []
    for name, values in compiled.items():
        if row.column(name) is not None:
            raise DataError(
                f"the column {name!r} is both in the file and in data.derive",
                where=f"data.derive.{name}",
                found=f"row {row.id!r} has {row.column(name)!r} there",
                fix=f"give the derived column another name, or remove data.derive.{name} to use the file's",
            )
        value = next((value for value, texts in values if any(text.found_in(row) for text in texts)), None)
        if value is not None:
            found.append((name, value))
    return replace(row, columns=(*row.columns, *found)) if found else row


def _compiled(rules: Rules, n_rows: int) -> dict[str, list[tuple[str, list[_Expression]]]]:
    left = [_SECONDS + _SECONDS_A_ROW * n_rows]
    return {
        name: [
            (value, [_Expression(key, compile_rule(text, key), left) for text in texts])
            for value, texts in values.items()
            for key in (f"{name}.{value}",)
        ]
        for name, values in rules.items()
    }
