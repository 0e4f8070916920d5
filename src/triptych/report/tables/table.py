"""What a table is: its cells hold numbers, and each renderer writes them its way (`tables.rendering`)."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.records import Aggregate, Averaged
from triptych.report.numbers import Estimate, Interval

AVERAGES = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")

Value = str | int | float | Averaged | Interval | Estimate | None


@dataclass(frozen=True, slots=True)
class Table:
    """Title, column names, rows of values, and a note on how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""


def averages(aggregate: Aggregate) -> tuple[float | None, ...]:
    """The four averages, in the order of `AVERAGES`; `bits_per_char` may be none."""
    return tuple(getattr(aggregate, average) for average in AVERAGES)
