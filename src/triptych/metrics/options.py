"""The options of the metric `accuracy`: which there are for each row, and what is odd about them.

auto      the distinct outputs of the whole train file, sorted; never of a part of it
a list    as given
a column  each row's own, as a list of texts
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from triptych.data import Row
from triptych.errors import ConfigError, DataError
from triptych.records.identity import sha256_of

MOST = 200
"""Distinct outputs of train that `auto` takes for options: more are no classes."""
_ROWS_A_CLASS = 2
_NAMED = 8


@dataclass(frozen=True)
class Options:
    """The options of every row."""

    same: tuple[str, ...] = ()
    """Those of all rows; empty where each row has its own."""
    column: str | None = None
    """The column that has a row's own."""
    most_frequent: str | None = None
    """The most frequent output of train, where that was read."""

    def of(self, row: Row) -> tuple[str, ...]:
        """A row's options.

        Raises:
            DataError: the row's column holds no list of two or more options.
        """
        return self.same if self.column is None else _own(row, self.column)

    def correct(self, row: Row) -> int | None:
        """Which of its options a row's reference is; None for none of them."""
        options = self.of(row)
        return options.index(row.target()) if row.target() in options else None

    def sha256(self, rows: Sequence[Row]) -> str:
        """Of the options of these rows."""
        return sha256_of(self.same or [self.of(row) for row in rows])

    def majority(self, rows: Sequence[Row]) -> float | None:
        """Share of rows whose reference is the most frequent output of train; None where that is unknown."""
        if self.most_frequent is None or not self.same or not rows:
            return None
        return sum(row.target() == self.most_frequent for row in rows) / len(rows)

    def warnings(self, rows: Sequence[Row]) -> list[str]:
        """What a reader of the accuracies has to know."""
        lines = []
        strangers = [row for row in rows if self.correct(row) is None]
        if strangers:
            texts = dict.fromkeys(repr(row.target()[:60]) for row in strangers)
            named = ", ".join([*list(texts)[:_NAMED], *(["…"] if len(texts) > _NAMED else [])])
            lines.append(
                f"{len(strangers)} of {len(rows)} test rows have an output that is none of their options, and count as "
                f"wrong: {named}"
            )
        within = [(a, b) for a, b in pairwise(sorted(self.same)) if b.startswith(a)]
        if within:
            named = ", ".join(f"{a!r} of {b!r}" for a, b in within[:_NAMED])
            lines.append(
                f"an option is the beginning of another one ({named}): the end of the output tells them apart in "
                "`accuracy`; `accuracy_no_eos` prefers the shorter"
            )
        return lines


def options_of(
    choices: Sequence[str] | str, outputs: Mapping[str, int], rows: Sequence[Row], *, where: str = "data.choices"
) -> Options:
    """The options that `choices` asks for.

    Args:
        choices: `auto`, a list of texts, or the name of a column.
        outputs: the distinct outputs of train, the most frequent first.
        rows: the rows to be scored.
        where: the setting, for messages.

    Raises:
        ConfigError: there are too few or too many of them.
        DataError: a row has no options of its own.
    """
    most_frequent = next(iter(outputs), None)
    if not isinstance(choices, str):
        return Options(tuple(choices), most_frequent=most_frequent)
    if choices != "auto":
        own = Options(column=choices)
        for row in rows:
            own.of(row)
        return own
    found = sorted(text for text in outputs if text)
    if len(found) > MOST:
        raise ConfigError(
            "these are too many different outputs to be options",
            where=where,
            found=f"auto, and {len(found):,} distinct outputs in train",
            expected=f"2 to {MOST}",
            fix="if the task has a fixed set of answers, list them; else measure texts: exact_match, f1, …",
        )
    if len(found) < 2:
        raise ConfigError(
            "there are no options to choose between",
            where=where,
            found=f"auto, and {len(found)} distinct outputs in train" if outputs else "auto, and no training rows",
            expected="2 or more",
            fix="list the options, or name the column that holds each row's own",
        )
    return Options(tuple(found), most_frequent=most_frequent)


def are_classes(outputs: Mapping[str, int]) -> bool:
    """Whether the distinct outputs of train, and how often each occurs, look like classes.

    There are 2 to `MOST` of them, as `auto` takes for options, and each has two rows on average: texts that were
    written for one row each don't repeat.
    """
    found = {text: count for text, count in outputs.items() if text}
    return 2 <= len(found) <= MOST and sum(found.values()) >= _ROWS_A_CLASS * len(found)


def _own(row: Row, column: str) -> tuple[str, ...]:
    text = row.column(column)
    try:
        value: Any = json.loads(text) if text is not None else None
    except ValueError:
        value = text
    if isinstance(value, list) and all(isinstance(one, str) and one for one in value) and len(set(value)) > 1:
        return tuple(dict.fromkeys(value))
    raise DataError(
        "a row has no options of its own",
        where=f"row {row.id!r}, column {column!r}",
        found="no such column" if text is None else repr(text[:60]),
        expected='a list of two or more different texts, such as ["yes", "no"]',
        fix="correct the row, or name another column (or `auto`, or a list) in data.choices",
    )
