"""Further columns that are read off the instruction: `data.derive: {direction: {to_modern: ["現代", "白話"]}}`.

Some expressions take time that doubles with every character, `(a+)+b` among them. Python's `re` can't be stopped then,
so the search is done by the package `regex`, which finds the same and takes a time limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from triptych.config.data import compile_rule
from triptych.data.row import Row
from triptych.errors import DataError

Rules = Mapping[str, Mapping[str, Sequence[str]]]
"""Column -> value -> regular expressions, one of which is found (`re.search`) in the instructions of its rows."""

_SECONDS, _SECONDS_A_ROW = 5.0, 0.001
"""A file's rules may take the first, and the second for each of its rows."""


class _Search:
    """Searches with the expressions of some rules, all within one time limit."""

    def __init__(self, rules: Rules, n_rows: int) -> None:
        self._left = _SECONDS + _SECONDS_A_ROW * n_rows
        self._compiled = {
            (name, value): [compile_rule(text, f"{name}.{value}") for text in texts]
            for name, values in rules.items()
            for value, texts in values.items()
        }

    def matches(self, name: str, value: str, row: Row) -> bool:
        """Whether an expression of a column's value is found in a row's instruction."""
        return any(self._found(expression, f"{name}.{value}", row) for expression in self._compiled[name, value])

    def _found(self, expression: Any, key: str, row: Row) -> bool:
        begin = time.monotonic()
        try:
            return expression.search(row.instruction, timeout=max(0.01, self._left)) is not None
        except TimeoutError as error:
            raise DataError(
                "a rule of data.derive takes too long",
                where=f"data.derive.{key}",
                found=f"{expression.pattern[:80]!r} was not through with row {row.id!r} "
                f"({len(row.instruction)} characters)",
                expected=f"{_SECONDS:g} s and {1000 * _SECONDS_A_ROW:g} ms a row at most, for all rules of a file",
                fix="write it without a repetition inside a repetition, such as (a+)+ or (.*)*",
            ) from error
        finally:
            self._left -= time.monotonic() - begin


def derive(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """Give rows the columns of the rules: of each, the first value that matches, or none.

    Raises:
        DataError: an expression is malformed or takes too long, or the file has a column of that name.
    """
    search = _Search(rules, len(rows))
    return [_with_columns(row, rules, search) for row in rows]


def unmatched(rows: Sequence[Row], rules: Rules) -> list[tuple[str, str, bool]]:
    """(column, value, whether an earlier value took all the rows it matches) of values that no row has got."""
    got = {(name, row.column(name)) for row in rows for name in rules}
    left = [(name, value) for name, values in rules.items() for value in values if (name, value) not in got]
    search = _Search(rules, len(rows))
    return [(name, value, any(search.matches(name, value, row) for row in rows)) for name, value in left]


def _with_columns(row: Row, rules: Rules, search: _Search) -> Row:
    derived: list[tuple[str, str]] = []
    for name, values in rules.items():
        if row.column(name) is not None:
            raise DataError(
                f"the column {name!r} is both in the file and in data.derive",
                where=f"data.derive.{name}",
                found=f"row {row.id!r} has {row.column(name)!r} there",
                fix=f"give the derived column another name, or remove data.derive.{name} to use the file's",
            )
        derived += islice(((name, value) for value in values if search.matches(name, value, row)), 1)
    return replace(row, columns=(*row.columns, *derived)) if derived else row
