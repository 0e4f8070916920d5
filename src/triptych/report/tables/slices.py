"""Tables of slices: every setting on every part of the rows, rows hard for all, rows that a strategy hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from triptych.records.schema import Strategy
from triptych.report.groups import STRATEGY_NAMES
from triptych.report.slices import Slices
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

FEW_VALUES = 4
HARDEST = 0.1
"""Hard: among this share of rows with the highest perplexity."""
MOST_SHOWN = 15
WORST = 3


def slice_tables(study: Study, slices: Slices) -> dict[str, Table]:
    """Slice name -> mean perplexity by part. Few parts: a column each; many: a line each, for the best settings."""
    every, best, by_row = study.settings, study.best.values(), study.rows
    tables = {}
    for name, values in slices.items():
        parts = {value: [row for row in values if values[row] == value] for value in dict.fromkeys(values.values())}
        heads = {value: f"{value}, {len(rows):,} rows" for value, rows in parts.items()}
        title = f"By {name}"
        if len(parts) <= FEW_VALUES:
            lines = [(study.name(s.label), *(_mean(by_row[s.label], rows) for rows in parts.values())) for s in every]
            tables[name] = Table(title, ("setting", *heads.values()), tuple(lines), "Mean perplexity of those rows.")
            continue
        ordered = sorted(parts.items(), key=lambda part: -len(part[1]))
        columns = (name, "rows", *(study.name(s.label) for s in best))
        rest = [(value, len(rows), *(_mean(by_row[s.label], rows) for s in best)) for value, rows in ordered]
        tables[name] = Table(title, columns, tuple(rest), "Mean perplexity of the best setting of each strategy.")
    return tables


def _mean(ppl: Mapping[str, float], rows: Sequence[str]) -> float | None:
    found = [ppl[row] for row in rows if row in ppl]
    return float(np.mean(found)) if found else None


def _hard(best: Mapping[Strategy, Mapping[str, float]]) -> list[str]:
    """Rows among the hardest of every strategy, the hardest first (by the geometric mean over strategies)."""
    if len(best) < 2:
        return []
    found: list[set[str]] = []
    for ppl in best.values():
        count = max(1, round(HARDEST * len(ppl)))
        found.append(set(sorted(ppl, key=lambda row: -ppl[row])[:count]))
    shared = set.intersection(*found)
    return sorted(shared, key=lambda row: -float(np.mean([np.log(ppl[row]) for ppl in best.values()])))


def difficulty(study: Study) -> Slices:
    """Slices to filter rows by: hard for every strategy, and helped or hurt against the best zero-shot prompt."""
    best = study.best_rows
    found: Slices = {}
    if hard := _hard(best):
        found["hard for every strategy"] = dict.fromkeys(hard, "yes")
    base = best.get("zero_shot")
    for strategy, ppl in best.items():
        if base is not None and strategy != "zero_shot":
            name = f"{STRATEGY_NAMES[strategy]} against zero-shot"
            found[name] = {row: _verdict(ppl[row], base[row]) for row in ppl if row in base}
    return found


def _verdict(ppl: float, base: float) -> str:
    return "helps" if ppl < base else "hurts" if ppl > base else "same"


def hard_table(study: Study, excerpts: Mapping[str, str]) -> Table | None:
    """Rows that every strategy finds hard; `excerpts`: row id -> the beginning of its text, where it may be shown."""
    best = study.best_rows
    hard = _hard(best)
    if not hard:
        return None
    rows: list[tuple[Value, ...]] = [
        (row, *([excerpts.get(row, "")] if excerpts else []), *(ppl[row] for ppl in best.values()))
        for row in hard[:MOST_SHOWN]
    ]
    columns = ("row", *(["output"] if excerpts else []), *(STRATEGY_NAMES[strategy] for strategy in best))
    note = f"Among the {HARDEST * 100:g} % of rows with the highest perplexity under the best setting of every strategy"
    more = f"; the {MOST_SHOWN} hardest of {len(hard)}." if len(hard) > MOST_SHOWN else "."
    return Table("Rows hard for every strategy", columns, tuple(rows), note + more)


def hurt_table(study: Study) -> Table | None:
    """How often, and where most, a strategy makes a row worse than the best zero-shot prompt does."""
    base = study.best_rows.get("zero_shot")
    others = {strategy: ppl for strategy, ppl in study.best_rows.items() if strategy != "zero_shot"}
    if base is None or not others:
        return None
    rows: list[tuple[Value, ...]] = []
    for strategy, ppl in others.items():
        worse = sorted((row for row in ppl if ppl[row] > base[row]), key=lambda row: base[row] / ppl[row])
        ratio = float(np.median([ppl[row] / base[row] for row in worse])) if worse else None
        share = f"{100 * len(worse) / len(ppl):.0f} %"
        rows.append((STRATEGY_NAMES[strategy], len(worse), share, ratio, ", ".join(worse[:WORST])))
    columns = ("strategy", "rows hurt", "share", "median factor", "hurt most")
    note = "Rows whose perplexity is higher than under the best zero-shot prompt, and by what factor in the median."
    return Table("Rows that a strategy hurts", columns, tuple(rows), note)
