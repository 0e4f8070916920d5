"""Rows that are hard for every strategy, and rows that a strategy helps or hurts against the best zero-shot prompt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from triptych.report.groups import STRATEGY_NAMES
from triptych.report.measures import PERPLEXITY
from triptych.report.slices import Slices
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

HARDEST = 0.1
"""Hard: among this share of rows with the highest perplexity."""
MOST_SHOWN = 15
WORST = 3


def _hard(study: Study) -> list[str]:
    """Rows among the hardest of every strategy, the hardest first (by the geometric mean over strategies).

    By a metric of rights and wrongs, the rows that every strategy gets wrong; by others, those of the highest
    perplexity.
    """
    best = [study.ppl_rows[s.label] for s in study.best.values() if s.label in study.ppl_rows]
    if len(best) < 2:
        return []
    if study.metric.zero_or_one:
        shared = set.intersection(
            *({row for row, right in rows.items() if right < 0.5} for rows in study.best_rows.values())
        )
    else:
        ranked = [[row for row, _ in sorted(ppl.items(), key=lambda pair: -pair[1])] for ppl in best]
        shared = set.intersection(*(set(rows[: max(1, round(HARDEST * len(rows)))]) for rows in ranked))
    return sorted(shared, key=lambda row: (-float(np.mean([np.log(ppl[row]) for ppl in best])), row))


def difficulty(study: Study) -> Slices:
    """Slices to filter rows by: hard for every strategy, and helped or hurt against the best zero-shot prompt."""
    best, sign = study.best_rows, 1 if study.metric.higher_is_better else -1
    parts: Slices = {}
    if hard := _hard(study):
        parts["hard for every strategy"] = dict.fromkeys(hard, "yes")
    base = best.get("zero_shot")
    for strategy, values in best.items():
        if base is not None and strategy != "zero_shot":
            gains = {row: sign * (values[row] - base[row]) for row in values if row in base}
            parts[f"{STRATEGY_NAMES[strategy]} against zero-shot"] = {
                row: "helps" if gain > 0 else "hurts" if gain < 0 else "same" for row, gain in gains.items()
            }
    return parts


def hard_table(study: Study, excerpts: Mapping[str, str]) -> Table | None:
    """Rows that every strategy finds hard; `excerpts`: row id -> the beginning of its text, where it may be shown."""
    hard = _hard(study)
    if not hard:
        return None
    best = {strategy: study.ppl_rows[s.label] for strategy, s in study.best.items()}
    rows: list[tuple[Value, ...]] = [
        (row, *([excerpts.get(row, "")] if excerpts else []), *(ppl[row] for ppl in best.values()))
        for row in hard[:MOST_SHOWN]
    ]
    columns = ("row", *(["output"] if excerpts else []), *(STRATEGY_NAMES[strategy] for strategy in best))
    note = f"Among the {HARDEST * 100:g} % of rows with the highest perplexity under the best setting of every strategy"
    if study.metric.zero_or_one:
        note = "Rows that the best setting of every strategy gets wrong, with their perplexities"
    more = f"; the {MOST_SHOWN} hardest of {len(hard)}." if len(hard) > MOST_SHOWN else "."
    return Table("Rows hard for every strategy", columns, tuple(rows), note + more)


def hurt_table(study: Study) -> Table | None:
    """How often, and where most, a strategy makes a row worse than the best zero-shot prompt does."""
    base = study.best_rows.get("zero_shot")
    others = {strategy: values for strategy, values in study.best_rows.items() if strategy != "zero_shot"}
    if base is None or not others:
        return None
    sign, ratios = -1 if study.metric.higher_is_better else 1, study.metric == PERPLEXITY

    def loss(values: Mapping[str, float], row: str) -> float:
        return values[row] / base[row] if ratios else abs(values[row] - base[row])

    rows: list[tuple[Value, ...]] = []
    for strategy, values in others.items():
        shared = [row for row in values if row in base]
        worse = [row for row in shared if sign * (values[row] - base[row]) > 0]
        worse.sort(key=partial(loss, values), reverse=True)
        median = float(np.median([loss(values, row) for row in worse])) if worse else None
        share = f"{100 * len(worse) / len(shared):.0f} %" if shared else ""
        rows.append((STRATEGY_NAMES[strategy], len(worse), share, median, ", ".join(worse[:WORST])))
    columns = ("strategy", "rows hurt", "share", "median factor" if ratios else "median loss", "hurt most")
    note = "Rows whose perplexity is higher than under the best zero-shot prompt, and by what factor in the median."
    if not ratios:
        note = f"Rows whose {study.metric.label} is lower than under the best zero-shot prompt, and by how much in the "
        note += "median."
    return Table("Rows that a strategy hurts", columns, tuple(rows), note)
