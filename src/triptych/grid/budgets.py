"""Nested random subsets of the training rows, each as large as a number of labelled rows (`budgets`).

    seed 0    ├── 16 ──┤
              ├──────── 64 ────────┤               a larger one of a seed holds the smaller
              ├──────────────── 256 ───────────────┤

Where outputs are classes, each subset holds them in the proportions of train, as near as its size allows.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from triptych.config.budgets import ALL
from triptych.config.experiment import ExperimentConfig
from triptych.data import Row
from triptych.grid.cells import Subset


def cut_demonstrations(config: ExperimentConfig) -> list[str]:
    """Warnings of numbers of demonstrations that some budget is too small for."""
    budgets = sorted(budget for budget in config.budgets or () if budget != ALL)
    few = config.strategies.few_shot
    return [
        f"k = {k} asks for more demonstrations than there are labelled rows with a budget of "
        f"{', '.join(map(str, small))}: all labelled rows are shown there"
        for k in (few.k if few else ())
        if (small := [budget for budget in budgets if budget < k])
    ]


class Subsets:
    """Subsets of some rows; `by_output`: outputs are classes."""

    def __init__(self, rows: Sequence[Row], *, by_output: bool) -> None:
        self.rows, self.by_output = rows, by_output
        self._orders: dict[int, list[int]] = {}

    def of(self, subset: Subset | None) -> list[Row]:
        """The rows of a subset, in their own order; None for all."""
        if subset is None:
            return list(self.rows)
        if subset.seed not in self._orders:
            self._orders[subset.seed] = _order(self.rows, subset.seed, by_output=self.by_output)
        return [self.rows[place] for place in sorted(self._orders[subset.seed][: subset.budget])]


def _order(rows: Sequence[Row], seed: int, *, by_output: bool) -> list[int]:
    """Places of the rows such that the first n are the subset of size n."""
    draws = random.Random(f"triptych-budget:{seed}")
    of_class: defaultdict[str | None, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        of_class[row.output if by_output else None].append(place)
    keys: dict[int, float] = {}
    for name in sorted(of_class, key=lambda name: name or ""):  # so that the classes' order in the file is nothing
        places, offset = of_class[name], draws.random()
        draws.shuffle(places)
        # the i-th row of a class of m comes where a share of i / m of every class has come
        keys |= {place: (i + offset) / len(places) for i, place in enumerate(places)}
    return sorted(keys, key=lambda place: (keys[place], place))
