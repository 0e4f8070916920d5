"""What a table is: its cells hold numbers; and how it is written as GitHub markdown, CSV and LaTeX.

Markdown and LaTeX round (`numbers`); CSV keeps every digit and gives a mean ± std or an interval a column each part.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from tabulate import tabulate

from triptych.records import Averaged, Comparison
from triptych.report.numbers import Estimate, Interval, Probability, difference, number, p_text, spread, together

AVERAGES = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")

Value = str | int | float | Averaged | Interval | Estimate | None


@dataclass(frozen=True, slots=True)
class Table:
    """Title, column names, rows of values, and a note on how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""


def estimate(c: Comparison) -> Estimate:
    """A comparison's difference with its interval."""
    return Estimate(c.difference, c.ci_low, c.ci_high)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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
    """RFC 4180 with Unix line ends, full precision. Text that a spreadsheet would compute is quoted as text."""
    parts = [_parts(name, [row[index] for row in table.rows]) for index, name in enumerate(table.columns)]
    rows: list[list[object]] = [[name for names, _ in parts for name in names]]
    rows += [[field for _, fields in parts for field in fields[index]] for index in range(len(table.rows))]
    lines = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(map(_as_text, row))  # with this end it quotes both characters
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _as_text(field: object) -> object:
    """A prompt may be called `=1+1`: with an apostrophe before it a spreadsheet shows it. Numbers stay numbers."""
    if not isinstance(field, str) or not field.startswith(("=", "+", "-", "@", "\t", "\r")):
        return field
    return field if _NUMBER.fullmatch(field) else f"'{field}"


def _parts(name: str, values: list[Value]) -> tuple[list[str], list[list[object]]]:
    """A column's names and fields: several where it holds spreads or intervals."""
    of_kinds = {Averaged: ("", " std"), Interval: (" low", " high"), Estimate: ("", " low", " high")}
    present = {type(value) for value in values}
    suffixes: tuple[str, ...] = next((names for kind, names in of_kinds.items() if kind in present), ("",))
    return [name + suffix for suffix in suffixes], [_fields(value, len(suffixes)) for value in values]


def _fields(value: Value, width: int) -> list[object]:
    fields: tuple[object, ...] = value if isinstance(value, Interval | Estimate) else (value,)
    if isinstance(value, Averaged):
        fields = (value.mean, value.std)
    return ["" if field is None else field for field in (*fields, *[None] * (width - len(fields)))]


LATEX = str.maketrans({"±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "…": r"\ldots{}"})
"""Characters that tabulate leaves as they are."""


def to_latex(table: Table) -> str:
    r"""A tabular with booktabs' rules (`\usepackage{booktabs}`), numbers rounded as in the report, names escaped.

    Chinese needs a font for it (xeCJK, CJKutf8).
    """
    rows = [[" ".join(re.split(r"[\n\r\t]", write_value(value))) for value in row] for row in table.rows]
    text = tabulate(rows, table.columns, tablefmt="latex_booktabs", disable_numparse=True, colalign=_aligned(table))
    if not rows:
        text = text.replace(r"\begin{tabular}{}", rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}")
    # after a line's end, LaTeX would read these as the line end's own options
    text = re.sub(r"^\s*(?=[\[*])", "{}", text.translate(LATEX), flags=re.MULTILINE)
    return f"% {' '.join(f'{table.title}. {table.note}'.split())}\n{text}\n"
