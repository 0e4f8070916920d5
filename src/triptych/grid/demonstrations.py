"""Which demonstrations a row is shown.

Rows are chosen from one pool by one set of rules (`strategies.demos`), so a selection is built once and asked for every
cell that uses it. What ranks by vectors asks for them when it is first needed: they may need the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from triptych.config.choices import Draw, Order, Select
from triptych.config.strategies import DemosConfig
from triptych.data import Row
from triptych.grid.cells import CellSpec
from triptych.prompts.ranking import Vectors
from triptych.prompts.selection import BY_VECTORS, Chosen, Selector


class Demonstrations:
    """Chooses demonstrations from a pool by an experiment's rules.

    Args:
        pool: training rows that may be shown.
        config: the rules.
        vectors: gives the embedding of every instruction that may be asked for, by instruction; called once, when the
            first selection needs it.
    """

    def __init__(
        self, pool: Sequence[Row], config: DemosConfig | None = None, *, vectors: Callable[[], Vectors] | None = None
    ) -> None:
        self.pool, self.config = pool, config or DemosConfig()
        self._known = None if vectors is None else cache(vectors)
        self._selectors: dict[tuple[Select, Draw, Order | None], Selector] = {}

    def choose(
        self,
        row: Row,
        k: int,
        *,
        select: Select,
        draw: Draw | None = None,
        order: Order | None = None,
        seed: int | None = None,
    ) -> Chosen:
        """k rows of the pool for this row.

        Args:
            row: the query.
            k: how many.
            select: by which strategy.
            draw: for strategies that draw.
            order: None shows them as they were drawn, or ranked by length.
            seed: None for strategies that don't draw.
        """
        key = (select, draw or "item", order)
        if key not in self._selectors:
            self._selectors[key] = Selector(
                self.pool,
                select=select,
                draw=key[1],
                order=key[2],
                column=self.config.column,
                vectors=self._known() if self._known and select in BY_VECTORS else None,
                max_similarity=self.config.max_similarity,
                mmr_lambda=self.config.mmr_lambda,
            )
        return self._selectors[key].choose(row, k, seed=seed or 0)

    def of_cell(self, cell: CellSpec, row: Row) -> Chosen:
        """What a cell shows of the pool for a row."""
        if not cell.k or not cell.select:
            return Chosen()
        return self.choose(row, cell.k, select=cell.select, draw=cell.draw, order=cell.order, seed=cell.seed)
