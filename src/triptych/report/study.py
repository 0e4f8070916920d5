"""What a report says of a run, computed once: every table, figure, page and sentence takes a `Study`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from triptych.records import CellRecord, Comparison, ItemScore, RunRecord
from triptych.records.schema import Strategy
from triptych.report.comparison_pairs import text_comparisons
from triptych.report.groups import Setting, best_of_each, display_names, group_cells, items_of, repeat_of
from triptych.report.numbers import Interval
from triptych.report.so_far import SoFar
from triptych.report.statistics import effect_size, intervals, paired_rows

Items = Mapping[str, Sequence[ItemScore]]


@dataclass(frozen=True, eq=False)
class Study:
    """A run's record and rows, and what follows from them; a part is computed when it is first asked for.

    Without `items`, `rows` and `intervals` are empty.
    """

    record: RunRecord
    items: Items = field(default_factory=dict)
    """By cell."""
    so_far: SoFar | None = None
    """How far the run is; None where it is done."""

    def fact(self, *keys: str) -> Any:
        """A fact of the run's provenance, None where it didn't keep it."""
        value: Any = self.record.provenance
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

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
        """The best setting of each strategy that was run, the cheapest strategy first."""
        return best_of_each(self.settings)

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
        """Setting label -> row id -> perplexity, meaned over the setting's seeds."""
        return {s.label: paired_rows(items_of(s, self.items)) for s in self.settings} if self.items else {}

    @cached_property
    def best_rows(self) -> dict[Strategy, dict[str, float]]:
        """The same of the best setting of each strategy."""
        return {strategy: self.rows[s.label] for strategy, s in self.best.items() if s.label in self.rows}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """By cell and by setting label: the 95 % interval of ppl_mean over rows (of a setting: of its rows' means)."""
        if not self.items:
            return {}
        several = [s for s in self.settings if len(s.cells) > 1]
        names = [*(cell.cell for cell in self.cells), *(s.label for s in several)]
        columns = [[item.ppl for item in self.items[cell.cell]] for cell in self.cells]
        columns += [list(self.rows[s.label].values()) for s in several]
        bounds = {name: Interval(*pair) for name, pair in zip(names, intervals(columns), strict=True)}
        return bounds | {s.label: bounds[s.first.cell] for s in self.settings if len(s.cells) == 1}

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The run's, with the effect sizes that a run of an earlier version didn't keep."""
        made = list(self.record.comparisons)
        for place, c in enumerate(made):
            if c.effect_size is None and {c.a, c.b} <= self.rows.keys():
                differences = np.array([ppl - self.rows[c.b][row] for row, ppl in self.rows[c.a].items()])
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
        added = {"comparisons": self.comparisons, "text_comparisons": self.text_comparisons}
        return self.record.model_copy(update=added)

    @property
    def n_rows(self) -> str:
        """How many rows the cells were scored on: `250`; where they differ, `200 or 250`."""
        return " or ".join(f"{count:,}" for count in sorted({cell.aggregate.n_rows for cell in self.cells}))
