"""A table as GitHub markdown, as CSV, and on the terminal.

Markdown and terminal round (`numbers`); CSV keeps every digit and gives a mean ± std or an interval a column each part.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from tabulate import tabulate

from triptych.records import Averaged, RunRecord
from triptych.report.numbers import Estimate, Interval, Probability, difference, number, p_text, spread, together
from triptych.report.tables import Table, Value, comparisons_table, study_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["escape", "numeric_columns", "print_tables", "to_csv", "to_markdown", "write_value"]


def write_value(value: Value) -> str:
    """One value for people. What doesn't exist is left empty."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Probability):
        return p_text(value).removeprefix("p ").removeprefix("= ")
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else number(value)
    if isinstance(value, Averaged):
        return spread(value)
    return difference(*value) if isinstance(value, Estimate) else f"[{', '.join(together(*value))}]"


def escape(text: str) -> str:
    """Make a name or sentence safe anywhere in GitHub markdown, a table's cell included."""
    text = re.sub(r"([\\`*|~]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    # only where they would begin a tag or an entity: "p < 0.001" stays as it is
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", text))
    return re.sub(r"\s*(\r\n|\r|\n)\s*", "<br>", text)


def to_markdown(table: Table) -> str:
    """A GitHub pipe table, numbers to the right."""
    rows = [[escape(value) if isinstance(value, str) else write_value(value) for value in row] for row in table.rows]
    columns = [escape(column) for column in table.columns]
    # tabulate must not guess: "10" as a prompt's name is no number
    return tabulate(rows, columns, tablefmt="github", disable_numparse=True, colalign=_aligned(table))


def numeric_columns(table: Table) -> set[int]:
    """Columns that hold numbers, and so stand to the right."""
    columns = enumerate(zip(*table.rows, strict=True))
    return {index for index, column in columns if not all(isinstance(value, str | None) for value in column)}


def _aligned(table: Table) -> list[str]:
    numbers = numeric_columns(table)
    return ["right" if index in numbers else "left" for index in range(len(table.columns))]


def to_csv(table: Table) -> str:
    """RFC 4180 with Unix line ends, full precision."""
    parts = [_parts(name, [row[index] for row in table.rows]) for index, name in enumerate(table.columns)]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([name for names, _ in parts for name in names])
    for index in range(len(table.rows)):
        writer.writerow([field for _, fields in parts for field in fields[index]])
    return lines.getvalue()


def _parts(name: str, values: list[Value]) -> tuple[list[str], list[list[object]]]:
    """A column's names and fields: several where it holds spreads or intervals."""
    kinds = {type(value) for value in values}
    suffixes: tuple[str, ...] = ("",)
    if Averaged in kinds:
        suffixes = ("", " std")
    elif Interval in kinds:
        suffixes = (" low", " high")
    elif Estimate in kinds:
        suffixes = ("", " low", " high")
    return [name + suffix for suffix in suffixes], [_fields(value, len(suffixes)) for value in values]


def _fields(value: Value, width: int) -> list[object]:
    if isinstance(value, Averaged):
        found: list[object] = [value.mean, value.std]
    elif isinstance(value, Interval | Estimate):
        found = list(value)
    else:
        found = [float(value) if isinstance(value, Probability) else value]
    found += [None] * (width - len(found))
    return ["" if field is None else field for field in found]


def print_tables(record: RunRecord, console: Console) -> None:
    """The study's table and the paired differences on the terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    tables = [study_table(record), *([comparisons_table(record.comparisons)] if record.comparisons else [])]
    for table in tables:
        shown = RichTable(title=Text(table.title), caption=Text(table.note), caption_justify="left")
        for name, side in zip(table.columns, _aligned(table), strict=True):
            shown.add_column(Text(name), justify="left" if side == "left" else "right")
        for row in table.rows:
            # Text, so that brackets in names and intervals are not read as rich's markup
            shown.add_row(*(Text(write_value(value)) for value in row))
        console.print(shown)
