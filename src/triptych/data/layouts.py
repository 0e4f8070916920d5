"""Which column holds what: layouts recognized by their column names, or one that the user gives."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.config.data import check_columns
from triptych.data.conversations import HOW_JOINED, may_be_turns
from triptych.data.row import RawRow
from triptych.errors import DataError

NESTED = ("messages", "conversations", "conversation", "prompt", "completion", "history")
"""Columns that may hold lists and objects."""

_TURNS = {"messages": "messages", "conversations": "ShareGPT", "conversation": "ShareGPT"}
_PAIRS = (
    ("prompt", "completion"),
    ("question", "answer"),
    ("query", "response"),
    ("prompt", "response"),
    ("input", "output"),
)
_BESIDE = ("context", "passage", "choices", "options", "system", "input", "history", "chosen", "rejected")
"""With one of these beside it, a question alone is not what was asked: the user has to say what is meant."""
_ASKS = ("instruction", "prompt", "question", "query", "input", "source", "text", "problem", "src")
_ANSWERS = ("output", "completion", "answer", "response", "target", "label", "solution", "summary", "tgt")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row's parts are. A part that is None is in no column."""

    name: str
    """triptych, alpaca, messages, ShareGPT, prompt/completion, question/answer …, or mapped."""
    instruction: str | None = None
    output: str | None = None
    input: str | None = None
    """Joined to the instruction by a line break where it isn't empty."""
    turns: str | None = None
    id: str | None = None
    system: str | None = None
    """Put before the instruction as the text of a system turn is."""

    @property
    def used(self) -> frozenset[str]:
        """The columns that are taken; the others are further columns of a row."""
        parts = (self.instruction, self.output, self.input, self.turns, self.id, self.system)
        return frozenset(part for part in parts if part is not None)

    def describe(self) -> str:
        """One line on what was detected."""
        if self.turns is not None:
            turns = f"{self.system} + {self.turns}" if self.system else self.turns
            return f"{self.name} ({turns}; {HOW_JOINED})"
        asked = " + ".join(part for part in (self.system, self.instruction, self.input) if part)
        return f"{self.name} ({asked} -> {self.output})" if self.output else f"{self.name} ({asked}, no output)"


def choose_layout(
    columns: Sequence[str], head: Sequence[RawRow], source: str, *, need_output: bool, given: Mapping[str, str] | None
) -> Layout:
    """Recognize the layout of a file by its column names; the `head` shows which columns hold lists of turns.

    `given` is `data.columns`: one of ROW_PARTS -> the file's column. Of a file that has none of these columns, the
    layout is detected: train and test may be written differently.

    Raises:
        DataError: no layout fits, or more than one, or a column that is given and not there.
    """
    known = set(columns)
    row_id = "id" if "id" in known else None
    if given:
        check_columns(given, source)
        there = {name: column for name, column in given.items() if column in known}
        if len(there) == len(given):
            return _mapped(given, known, source, row_id, need_output=need_output)
        if there or not _candidates(known, head, row_id, need_output=need_output):
            raise _not_there(given, columns, source)
    layouts = _candidates(known, head, row_id, need_output=need_output)
    if len(layouts) == 1:
        return layouts[0]
    if layouts:
        raise DataError(
            "the columns fit more than one way to write rows",
            where=source,
            found=f"{_listed(columns)}: {' or '.join(layout.name for layout in layouts)}",
            expected="one of them",
            fix=f"say which columns are meant: {_lines(columns)}",
        )
    raise _unknown(columns, source, need_output=need_output)


def _candidates(known: set[str], head: Sequence[RawRow], row_id: str | None, *, need_output: bool) -> list[Layout]:
    """All layouts that fit. Triptych's own column names and alpaca's decide, with any other columns beside them."""
    system = "system" if "system" in known else None
    if "instruction" in known and ("output" in known or not need_output):
        output = "output" if "output" in known else None
        if "input" in known:
            return [Layout("alpaca", "instruction", output, input="input", id=row_id, system=system)]
        return [Layout("triptych", "instruction", output, id=row_id, system=system)]
    layouts = [
        Layout(name, turns=column, id=row_id, system=system)
        for column, name in _TURNS.items()
        if column in known and any(may_be_turns(row.values.get(column)) for row in head)
    ]
    for asks, answers in () if layouts else _PAIRS:
        if asks not in known or (answers not in known and need_output):
            continue
        if not any(column in known for column in _BESIDE if column not in (asks, answers)):
            answer = answers if answers in known else None
            layouts.append(Layout(f"{asks}/{answers}", asks, answer, id=row_id))
    if not need_output:  # several pairs begin with `prompt`: without outputs they are the same
        layouts = list({(layout.instruction, layout.turns): layout for layout in reversed(layouts)}.values())
    return layouts


def _mapped(given: Mapping[str, str], known: set[str], source: str, row_id: str | None, *, need_output: bool) -> Layout:
    row_id = given.get("id", row_id)
    if "messages" in given:
        if {"instruction", "output", "input"} & given.keys():
            raise DataError(
                "a row's texts are either in the messages or in columns of their own",
                where="data.columns",
                found=", ".join(given),
                fix="leave out `messages`, or the others",
            )
        return Layout("mapped", turns=given["messages"], id=row_id, system=given.get("system"))
    parts = {name: given.get(name, name if name in known else None) for name in ("instruction", "output", "input")}
    if parts["instruction"] is None or (parts["output"] is None and need_output):
        raise _unknown(sorted(known), source, need_output=need_output)
    if "instruction" in given and "input" not in given:
        parts["input"] = None  # only alpaca's own pair is joined without being asked
    return Layout("mapped", **parts, id=row_id, system=given.get("system"))


def _not_there(given: Mapping[str, str], columns: Sequence[str], source: str) -> DataError:
    name, column = next((name, column) for name, column in given.items() if column not in columns)
    near = difflib.get_close_matches(column, _short(columns), n=1, cutoff=0.5)
    return DataError(
        f"data.columns names a column that is not there: {column!r}",
        where=source,
        found=_listed(columns),
        expected=f"{column!r}, which is to be the {name}",
        fix=f"did you mean `{name}: {near[0]}`?" if near else f"give one of these columns as {name}",
    )


def _unknown(columns: Sequence[str], source: str, *, need_output: bool) -> DataError:
    only_output = need_output and "instruction" in columns
    needed = "'instruction'" if not need_output or (not only_output and "output" in columns) else "'output'"
    several = need_output and not only_output and "output" not in columns
    return DataError(
        "it can't be told which columns hold the rows" if several else f"the column {needed} is missing",
        where=source,
        found=_listed(columns),
        expected="the columns 'instruction' and 'output', or what is used for alpaca, ShareGPT, messages, "
        "prompt/completion or question/answer alone",
        fix=f"rename the file's columns, or say which are meant: {_lines(columns)}"
        + ("\n  a file without outputs can only be given to `triptych predict`" if only_output else ""),
    )


def _lines(columns: Sequence[str]) -> str:
    """The lines to write, with the likeliest columns in them."""
    asked = _likeliest(_ASKS, columns, ())
    answer = _likeliest(_ANSWERS, columns, (asked, "id"))
    return f"\n    data:\n      columns:\n        instruction: {asked}\n        output: {answer}"


def _likeliest(names: Sequence[str], columns: Sequence[str], taken: Sequence[str]) -> str:
    free = [column for column in _short(columns) if column not in taken]
    near = (difflib.get_close_matches(name, free, n=1, cutoff=0.7) for name in names)
    exact = (name for name in names if name in free)
    found = next(itertools.chain(exact, itertools.chain.from_iterable(near)), None)
    others = [column for column in free if column != "id"]
    return repr(found)[1:-1] if found else repr(others[0])[1:-1][:40] if len(others) == 1 else "(its column)"


def _short(columns: Sequence[str]) -> list[str]:
    """Those a user may have meant: comparing names takes time that grows with the square of their length."""
    return [column for column in columns[:100] if len(column) <= 100]


def _listed(columns: Sequence[str]) -> str:
    names = [repr(name)[:40] for name in columns[:20]]
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    return f"the columns {', '.join(names)}{more}" if names else "no columns at all"
