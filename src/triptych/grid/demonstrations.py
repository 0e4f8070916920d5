"""Which demonstrations a row is shown, in an experiment and, with the options of `score` and `predict`, for one file.

Rows are chosen from one pool by one set of rules (`strategies.demos`), so a selection is built once and asked for every
cell that uses it. What ranks by vectors asks for them when it is first needed: they may need the model. The options of
a command become a cell and these rules, so a file and the cell of a run with the same settings show the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from triptych.config.choices import Draw, Order, Select
from triptych.config.strategies import DemosConfig
from triptych.data import GivenRows, Row, find_overlap, read_rows
from triptych.errors import ConfigError
from triptych.grid.cells import CellSpec, Subset
from triptych.progress import Reporter
from triptych.prompts.ranking import Vectors
from triptych.prompts.selection import BY_VECTORS, DRAWN, Chosen, Selector, default_order


class Demonstrations:
    """Chooses demonstrations from a pool of training rows by an experiment's rules.

    `vectors` gives the embedding of every instruction, by instruction; called once, when a selection first needs it.
    `labelled` gives the rows of a subset of the training rows, to which a cell may be confined.
    """

    def __init__(
        self,
        pool: Sequence[Row],
        config: DemosConfig,
        *,
        vectors: Callable[[], Vectors] | None,
        labelled: Callable[[Subset], Sequence[Row]] | None = None,
    ) -> None:
        self.pool, self.config = pool, config
        self._vectors = None if vectors is None else cache(vectors)
        self._labelled, self._ids = labelled, frozenset(row.id for row in pool)
        self._selectors: dict[tuple[Select, Draw, Order | None, Subset | None], Selector] = {}

    def embed(self) -> None:
        """Compute the embeddings now, where something may choose by them."""
        if self._vectors:
            self._vectors()

    def of_cell(self, cell: CellSpec, row: Row) -> Chosen:
        """What a cell shows of the pool for a row."""
        if not cell.k or not cell.select:
            return Chosen()
        select, draw, order, subset = key = (cell.select, cell.draw or "item", cell.order, cell.subset)
        if key not in self._selectors:
            self._selectors[key] = Selector(
                self.pool_of(subset),
                select=select,
                draw=draw,
                order=order,
                column=self.config.column,
                vectors=self._vectors() if self._vectors and select in BY_VECTORS else None,
                max_similarity=self.config.max_similarity,
                mmr_lambda=self.config.mmr_lambda,
            )
        selector = self._selectors[key]
        # fewer rows than k may be labelled: then all of them are shown
        k = cell.k if subset is None else min(cell.k, selector.available(row))
        return selector.choose(row, k, seed=cell.seed or 0)

    def pool_of(self, subset: Subset | None) -> Sequence[Row]:
        """The rows that may be shown where only some are labelled."""
        if subset is None:
            return self.pool
        assert self._labelled is not None
        return [row for row in self._labelled(subset) if row.id in self._ids]


@dataclass(frozen=True, slots=True)
class Shots:
    """Which demonstrations are shown, as the options of a command or the parameters of a call say it."""

    k: int = 0
    pool: str | GivenRows | None = None
    """The rows that may be shown."""
    select: Select = "random"
    seed: int = 0
    """Of draws; what is ranked has none."""
    draw: Draw = "item"
    order: Order | None = None
    """None: nearest last where they are ranked by nearness, else as drawn."""
    demos: DemosConfig = field(default_factory=DemosConfig)
    """Further settings of some selections."""

    def cell(self, prompt: str) -> CellSpec:
        """The cell of an experiment that shows the same."""
        if not self.k:
            return CellSpec("zero_shot", prompt)
        order = self.order or default_order(self.select)
        seed = self.seed if self.select in DRAWN or order == "random" else None
        return CellSpec("few_shot", prompt, self.k, seed, self.draw, self.select, order)

    def record(self) -> dict[str, Any]:
        """What decides which rows of a pool are shown, in which order; nothing without demonstrations."""
        if not self.k:
            return {}
        cell = self.cell("")
        decides = {
            "seed": cell.seed is not None,
            "draw": self.select in DRAWN,
            "order": cell.order is not None,
            "column": self.select == "same",
            "embedding": self.select in BY_VECTORS,
            "max_similarity": self.demos.max_similarity is not None,
            "mmr_lambda": self.select == "mmr" and self.demos.mmr_lambda != DemosConfig().mmr_lambda,
        }
        values = {"seed": cell.seed, "draw": self.draw, "order": cell.order, **self.demos.model_dump()}
        return {"select": self.select, **{name: values[name] for name, does in decides.items() if does}}

    def check(self) -> None:
        """Find what can be wrong before anything is read.

        Raises:
            ConfigError: options that don't go together.
        """
        if self.k and self.pool is None:
            raise ConfigError(
                "demonstrations need rows to be drawn from",
                where="--shots",
                found=f"--shots {self.k} without --pool",
                fix="give the training data with --pool",
            )
        if not self.k and (self.select != "random" or self.order):
            raise ConfigError(
                "a way to choose demonstrations is given, and none are shown",
                where="--select" if self.select != "random" else "--order",
                found=f"--shots {self.k}",
                fix="say how many with --shots",
            )
        if self.select == "same" and not self.demos.column:
            raise ConfigError(
                "demonstrations with the query's value are asked for, and no column is named",
                where="--select",
                found="same, without --column",
                fix="name a column of the data with --column; one made by a rule needs an experiment (`data.derive`)",
            )

    def read_pool(self, rows: Sequence[Row], data: str | GivenRows, reporter: Reporter) -> list[Row]:
        """Rows that may be shown: those of the pool that are not among `rows`, which come from `data`.

        Raises:
            ConfigError: fewer than are to be shown.
            DataError: the pool can't be read.
        """
        if not self.k or self.pool is None:
            return []
        pool = read_rows(self.pool, reporter=reporter)
        if overlap := find_overlap(pool, rows):
            reporter.warn(f"{overlap.message()}; these are never shown as demonstrations")
            pool = [row for row in pool if row.id not in overlap.train_ids]
        if self.k > len(pool):
            raise ConfigError(
                "more demonstrations are asked for than there are rows to show",
                where="--shots",
                found=f"--shots {self.k}, {len(pool)} rows in {self.pool} that are not in {data}",
                fix="lower --shots, or give more rows with --pool",
            )
        return pool
