"""Parts of the test set and their tables, so that an average can't hide where a strategy helps and where it doesn't.

A slice is a name and a value for each row. Built in, where the rows have them: the direction of a translation between
modern and classical Chinese, the wording of the instruction, the length of the output. Any further column of the data
makes another (`column_slices`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches

import numpy as np

from triptych.data import Row
from triptych.report.groups import capital
from triptych.report.study import Study
from triptych.report.tables.table import Table

Slices = dict[str, dict[str, str]]

# the study's and the sample's wordings; 下麵 is the study's own spelling
SENTENCE = r"(?:幫我)?(?:[將把](?:下[面麵]|這)句(?:子|話)?)?"
CLASSICAL = re.compile(rf"{SENTENCE}翻譯成(?:文言文|古文)[：:。]?|這句話在(?:中國)?古代怎麼說[：:？?]?")
MODERN = re.compile(rf"{SENTENCE}翻譯成(?:現代文|白話文)[：:。]?|文言文翻譯[：:]?")
KNOWN_SHARE = 0.5
"""A slice with a value for a smaller share of the rows is not shown."""
FEWEST_REPEATS = 2
REPEATED_SHARE = 0.01
"""A first or last line that this share of the rows has is a template's, not a row's own."""
MOST_WORDINGS = 40
MOST_AUTOMATIC = 12
"""A column with more values than this is a slice only if the user names it."""
MOST_PARTS = 40
REST = "(other values)"
FEW_VALUES = 4


def slices(rows: Sequence[Row]) -> Slices:
    """Name -> row id -> value. A slice leaves out rows without a value; one with a single value is left out itself."""
    built_in = {
        "direction": _directions(rows),
        "wording": _wordings(rows),
        "length": by_length({row.id: len(row.output or "") for row in rows}),
    }
    least = KNOWN_SHARE * len(rows)
    return {name: by_row for name, by_row in built_in.items() if len(set(by_row.values())) > 1 and len(by_row) >= least}


def _lines(row: Row) -> tuple[str, str]:
    lines = row.instruction.strip().splitlines() or [""]
    return lines[0].strip(), lines[-1].strip()


def _directions(rows: Iterable[Row]) -> dict[str, str]:
    """By the line that asks, never by the text to be translated, which may name either direction."""
    return {
        row.id: value
        for row in rows
        for value, pattern in (("to classical", CLASSICAL), ("to modern", MODERN))
        if any(map(pattern.fullmatch, _lines(row)))
    }


def _wordings(rows: Sequence[Row]) -> dict[str, str]:
    """First and last line where many rows share them: `first …`, `… last`, `first … last`."""
    ends = {row.id: _lines(row) for row in rows if len(row.instruction.strip().splitlines()) > 1}
    least = max(FEWEST_REPEATS, REPEATED_SHARE * len(rows))
    firsts, lasts = (Counter(pair[side] for pair in ends.values()) for side in (0, 1))
    wordings = {}
    for row_id, (first, last) in ends.items():
        head, tail = firsts[first] >= least, lasts[last] >= least
        if head or tail:
            wordings[row_id] = f"{first if head else ''} … {last if tail else ''}".strip()
    return wordings if len(set(wordings.values())) <= MOST_WORDINGS else {}


def column_slices(
    columns: Mapping[str, Mapping[str, str]], names: Sequence[str] | None, taken: Sequence[str] = ()
) -> tuple[Slices, list[str]]:
    """Slices by further columns of the data, and why named columns make none.

    Args:
        columns: row id -> name -> value; rows may have different columns.
        names: the columns to cut by; None for every column with 2 to `MOST_AUTOMATIC` values.
        taken: names of other slices, which a column of that name must not hide.
    """
    values: dict[str, dict[str, str]] = {}
    for row, of_row in columns.items():
        for name, value in of_row.items():
            values.setdefault(name, {})[row] = value
    counts = {name: len(set(by_row.values())) for name, by_row in values.items()}
    named = dict.fromkeys(names or ())
    chosen = [n for n in (counts if names is None else named) if counts.get(n, 0) > 1]
    if names is None:
        chosen = [name for name in chosen if counts[name] <= MOST_AUTOMATIC]
    notes = [_no_slice(name, values) for name in named if name not in chosen]
    return {(f"column {n}" if n in taken else n): _parts(values[n]) for n in chosen}, notes


def _no_slice(name: str, values: Mapping[str, Mapping[str, str]]) -> str:
    if name in values:
        return f"No slice by the column {name!r}: it has one value, {next(iter(values[name].values()))!r}, in all rows."
    text = f"No slice by the column {name!r}: no test row has such a column"
    if not values:
        return f"{text}, or any further column that this run kept."
    near = get_close_matches(name, values, n=1, cutoff=0.0)
    others = ", ".join(repr(other) for other in values)
    return f"{text}; the nearest is {near[0]!r} (columns: {others})."


def _parts(values: Mapping[str, str]) -> dict[str, str]:
    """Few values stay as they are; many are thirds where they are numbers, else the rarest are put together."""
    counts = Counter(values.values())
    if len(counts) <= MOST_AUTOMATIC:
        return dict(values)
    with suppress(ValueError):
        numbers = {row: float(value) for row, value in values.items()}
        if all(map(math.isfinite, numbers.values())):
            return _thirds(numbers, lambda a, b: (f"up to {a:g}", f"over {a:g}, up to {b:g}", f"over {b:g}"))
    common = {value for value, _ in counts.most_common(MOST_PARTS - 1 if len(counts) > MOST_PARTS else None)}
    return {row: value if value in common else REST for row, value in values.items()}


def _thirds(numbers: Mapping[str, float], names: Callable[[float, float], tuple[str, str, str]]) -> dict[str, str]:
    low, high = (float(cut) for cut in np.quantile(list(numbers.values()), (1 / 3, 2 / 3), method="lower"))
    parts = {row: int(value > low) + int(value > high) for row, value in numbers.items()}
    return {row: names(low, high)[part] for row, part in sorted(parts.items(), key=lambda pair: pair[1])}


def by_length(characters: Mapping[str, int]) -> dict[str, str]:
    """Thirds of the rows by the length of their outputs; fewer parts where many are equally long."""

    def names(a: float, b: float) -> tuple[str, str, str]:
        return (
            f"short (up to {a:.0f} characters)",
            f"middle ({a + 1:.0f} to {b:.0f})",
            f"long (over {b:.0f} characters)",
        )

    return _thirds(characters, names) if characters else {}


def slice_tables(study: Study, cut: Slices) -> dict[str, Table]:
    """Slice name -> the deciding metric by part. Few parts: a column each; many: a line each, for the best settings."""
    best, by_row = study.best.values(), study.rows
    every, what = [s for s in study.settings if s.label in by_row], capital(study.metric.label)
    tables = {}
    for name, values in cut.items():
        parts = {value: [row for row in values if values[row] == value] for value in dict.fromkeys(values.values())}
        heads = {value: f"{value}, {len(rows):,} rows" for value, rows in parts.items()}
        title = f"By {name}"
        if len(parts) <= FEW_VALUES:
            lines = [(study.name(s.label), *(_mean(by_row[s.label], rows) for rows in parts.values())) for s in every]
            tables[name] = Table(title, ("setting", *heads.values()), tuple(lines), f"{what} of those rows.")
            continue
        ordered = sorted(parts.items(), key=lambda part: -len(part[1]))
        columns = (name, "rows", *(study.name(s.label) for s in best))
        rest = [(value, len(rows), *(_mean(by_row[s.label], rows) for s in best)) for value, rows in ordered]
        tables[name] = Table(title, columns, tuple(rest), f"{what} of the best setting of each strategy.")
    return tables


def _mean(of_rows: Mapping[str, float], rows: Sequence[str]) -> float | None:
    values = [of_rows[row] for row in rows if row in of_rows]
    return float(np.mean(values)) if values else None
