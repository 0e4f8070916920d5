"""What a report says of a run, computed once: every table, figure, page and sentence takes a `Study`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import starmap
from statistics import fmean
from typing import Any

import numpy as np

from triptych.metrics import Metric, metric_of
from triptych.records import CellRecord, Comparison, ItemScore, RunRecord
from triptych.records.schema import Strategy
from triptych.report.budgets import of_most_rows
from triptych.report.comparison_pairs import text_comparisons
from triptych.report.groups import Setting, best_of_each, display_names, group_cells, items_of, repeat_of
from triptych.report.measures import PERPLEXITY, average_of, known_metrics, measured, rows_of
from triptych.report.numbers import Interval
from triptych.report.proportions import wilson
from triptych.report.so_far import SoFar
from triptych.report.statistics import effect_size, intervals

Items = Mapping[str, Sequence[ItemScore]]


@dataclass(frozen=True, eq=False)
class Study:
    """A run's record and rows, and what follows from them; a part is computed when it is first asked for.

    Without `items`, `rows` and `intervals` are empty.
    """

    whole: RunRecord
    """With the cells of every budget of labelled rows."""
    items: Items = field(default_factory=dict)
    """By cell."""
    so_far: SoFar | None = None
    """How far the run is; None where it is done."""
    decided_by: str | None = None
    """Name of the metric that decides; None for the first of the run's that has values."""

    @cached_property
    def record(self) -> RunRecord:
        """The record with the cells of the most labelled rows alone: what is compared has as many."""
        return of_most_rows(self.whole)

    def fact(self, *keys: str) -> Any:
        """A fact of the run's provenance, None where it didn't keep it."""
        value: Any = self.record.provenance
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The run's metrics that some cell has a value of, the run's first one first."""
        return known_metrics(self.record.metrics, [cell.aggregate for cell in self.record.cells])

    @cached_property
    def metric(self) -> Metric:
        """The one that decides: best settings, intervals, comparisons and the answer are by it."""
        return metric_of(self.decided_by) if self.decided_by else self.metrics[0]

    @property
    def average(self) -> str:
        """What its number is called (`measures`)."""
        return average_of(self.metric)

    def by(self, metric: Metric) -> Study:
        """The same run, decided by another of its metrics."""
        if metric == self.metric:
            return self
        return self._others.setdefault(metric.name, replace(self, decided_by=metric.name))

    @cached_property
    def _others(self) -> dict[str, Study]:
        return {}

    @property
    def cells(self) -> tuple[CellRecord, ...]:
        """Every cell, in the grid's order."""
        return self.record.cells

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Cells that differ only in their seeds, as one."""
        return group_cells(self.record.cells)

    def of(self, strategy: Strategy) -> list[Setting]:
        """The settings of one strategy."""
        return [setting for setting in self.settings if setting.strategy == strategy]

    @cached_property
    def by_label(self) -> dict[str, Setting]:
        """Label -> setting."""
        return {setting.label: setting for setting in self.settings}

    @cached_property
    def best(self) -> dict[Strategy, Setting]:
        """The best setting of each strategy that was run, by the deciding metric; the cheapest strategy first."""
        return best_of_each(self.settings, self.metric)

    @cached_property
    def ranked(self) -> list[Setting]:
        """The same, the best first."""
        return sorted(self.best.values(), key=self.mean, reverse=self.metric.higher_is_better)

    def mean(self, setting: Setting) -> float:
        """A setting's number by the deciding metric."""
        return setting.mean(self.average)

    @property
    def superlative(self) -> str:
        """What the best number of the deciding metric is among all: `lowest` or `highest`."""
        return "highest" if self.metric.higher_is_better else "lowest"

    @cached_property
    def names(self) -> dict[str, str]:
        """Setting label -> its name for people."""
        return display_names(self.settings)

    def name(self, label: str) -> str:
        """A setting's name for people; a label that the run doesn't have stands for itself."""
        return self.names.get(label, label)

    @cached_property
    def cell_names(self) -> dict[str, str]:
        """Cell -> its name for people: its setting's, and its seeds where the setting has several cells."""
        return {
            cell.cell: ", ".join([self.names[s.label], *(repeat_of(cell) if len(s.cells) > 1 else [])])
            for s in self.settings
            for cell in s.cells
        }

    @cached_property
    def rows(self) -> dict[str, dict[str, float]]:
        """Setting label -> row id -> the deciding metric, meaned over the setting's seeds."""
        known = [s for s in self.settings if s.has(self.average)] if self.items else []
        return {s.label: rows_of(items_of(s, self.items), self.metric) for s in known}

    @cached_property
    def ppl_rows(self) -> dict[str, dict[str, float]]:
        """The same of perplexity."""
        return self.by(PERPLEXITY).rows

    @cached_property
    def best_rows(self) -> dict[Strategy, dict[str, float]]:
        """`rows` of the best setting of each strategy."""
        return {strategy: self.rows[s.label] for strategy, s in self.best.items() if s.label in self.rows}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """By cell and by setting label: the 95 % interval over rows (of a setting: of its rows' means).

        Of a share, Wilson's: of several seeds too, where it is wider than need be.
        """
        return self._shares() if self.metric.zero_or_one else self._bootstrapped()

    def _shares(self) -> dict[str, Interval]:
        """They need no rows: a share and its number of rows is all there is."""
        known = [(s.label, s.cells) for s in self.settings if s.has(self.average)]
        known += [(c.cell, (c,)) for c in self.cells if measured(c.aggregate, self.average) is not None]
        found = {}
        for name, cells in known:
            n = min(cell.aggregate.metrics[self.average].n for cell in cells)
            share = fmean(cell.aggregate.metrics[self.average].value for cell in cells)
            found[name] = wilson(min(n, share * n), n)
        return found

    def _bootstrapped(self) -> dict[str, Interval]:
        if not self.items:
            return {}
        several = [s for s in self.settings if len(s.cells) > 1 and s.label in self.rows]
        cells = {c.cell: list(rows_of(self.items[c.cell], self.metric).values()) for c in self.cells}
        columns = {name: values for name, values in cells.items() if values}
        columns |= {s.label: list(self.rows[s.label].values()) for s in several if self.rows[s.label]}
        bounds = dict(zip(columns, starmap(Interval, intervals(list(columns.values()))), strict=True))
        return bounds | {
            s.label: bounds[s.first.cell] for s in self.settings if len(s.cells) == 1 and s.first.cell in bounds
        }

    @property
    def chance(self) -> float | None:
        """What guessing among a row's options gets right: the mean of 1 / options; None where none were scored."""
        scored = next((rows for rows in self.items.values() if any(item.option_nll for item in rows)), ())
        options = [len(item.option_nll) for item in scored if item.option_nll]
        if not options and self.record.choices:
            options = [len(self.record.choices)]
        return fmean(1 / count for count in options) if options else None

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The run's by the deciding metric, with the effect sizes that a run of an earlier version didn't keep."""
        return tuple(c for c in self._comparisons if c.metric == self.metric.key)

    @cached_property
    def _comparisons(self) -> tuple[Comparison, ...]:
        """By every metric."""
        made = list(self.record.comparisons)
        for place, c in enumerate(made):
            if c.effect_size is None and c.metric == PERPLEXITY.key and {c.a, c.b} <= self.ppl_rows.keys():
                a, b = self.ppl_rows[c.a], self.ppl_rows[c.b]
                differences = np.array([ppl - b[row] for row, ppl in a.items()])
                made[place] = c.model_copy(update={"effect_size": effect_size(differences)})
        return tuple(made)

    @cached_property
    def text_comparisons(self) -> tuple[Comparison, ...]:
        """Paired differences of the rows' chrF++, computed where a run wrote texts and didn't compare them."""
        if self.record.text_comparisons or len(self.record.generations) < 2:
            return self.record.text_comparisons
        return text_comparisons(self.record.generations)

    @cached_property
    def completed(self) -> RunRecord:
        """The record with what this version adds to it."""
        return self.record.model_copy(update=self._added)

    @property
    def completed_whole(self) -> RunRecord:
        """The same, with the cells of every budget."""
        return self.whole.model_copy(update=self._added)

    @property
    def _added(self) -> dict[str, Any]:
        return {"comparisons": self._comparisons, "text_comparisons": self.text_comparisons}

    @property
    def n_rows(self) -> str:
        """How many rows the cells were scored on: `250`; where they differ, `200 or 250`."""
        return " or ".join(f"{count:,}" for count in sorted({cell.aggregate.n_rows for cell in self.cells}))
