"""Choosing demonstrations by strategy. All come from the pool (training rows that are not in the test set).

    random           drawn uniformly, as in the study: `draw_demos`
    same             drawn uniformly from the rows that have the query's value in a column
    bm25             highest BM25 score over characters and pairs of characters
    embedding        highest cosine of vectors that are handed in
    mmr              maximal marginal relevance (Carbonell & Goldstein 1998): one at a time, the row with the highest
                     lambda * similarity to the query - (1 - lambda) * similarity to the nearest row chosen before;
                     similarity is the cosine of the vectors handed in, without vectors that of `ngrams.jaccard`
    longest          most characters of instruction and output; `shortest` fewest
    similar-length   instruction nearest in length to the query's

Queries and rows are compared by their instructions. A demonstration is never the query itself: none has its wording
(`data.normalise`). Ids don't count: rows of files without ids are numbered, and say nothing of each other. A choice
depends on (seed, query) and the pool's rows. `random` and `same` depend on the pool's order too, as draws do; the
others don't: of equals, the row whose id sorts first is taken. The rows for a smaller k are always among those for a
larger one.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from triptych.config.choices import Draw, Order, Select
from triptych.data import Row, normalise
from triptych.errors import ConfigError, DataError
from triptych.prompts.demonstrations import drawn_positions
from triptych.prompts.ngrams import jaccard
from triptych.prompts.ranking import Ranking, Vectors
from triptych.prompts.render import Drop

DRAWN: frozenset[Select] = frozenset({"random", "same"})
"""Selections that draw by a seed. The others rank, and have one answer for each query."""
NEAREST: frozenset[Select] = frozenset({"bm25", "embedding", "mmr"})
"""Selections that rank by similarity to the query, so that an order by nearness means something."""
BY_VECTORS: frozenset[Select] = frozenset({"embedding", "mmr"})
"""Selections that compare embeddings, which may need the model."""
_ONE_SET_WILL_DO: frozenset[Select] = DRAWN | {"longest", "shortest"}


def default_order(select: Select) -> Order | None:
    """How demonstrations are ordered where no order is given: the nearest last, or as they were drawn."""
    return "nearest-last" if select in NEAREST else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Demonstrations in the order they are shown."""

    demos: tuple[Row, ...] = ()
    similarity: tuple[float, ...] = ()
    """Of each to the query, by `ngrams.jaccard` of the instructions whatever the strategy, so that they compare."""
    drop: Drop = "last"
    """From which end `render` is to drop what doesn't fit: the one away from the nearest."""


@dataclass(slots=True)
class _Draws:
    """Rows to draw from: their positions, in the order of the pool that was given."""

    positions: list[int] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # and back

    def add(self, position: int) -> None:
        self.numbers[position] = len(self.positions)
        self.positions.append(position)


class Selector:
    """Chooses demonstrations from one pool by one strategy.

    Args:
        pool: training rows with outputs; the caller has taken out those that occur in the test set.
        select: the strategy.
        draw: `seed` only for strategies that can show all queries the same set.
        column: for `same`, the column whose value counts.
        order: how the chosen are shown. None is as drawn, or as ranked, best first; `random` shuffles what was ranked,
            by (seed, query). Nearness is by the strategy's own measure (BM25, cosine), else by `ngrams.jaccard`.
        vectors: an embedding for the instruction of every row and query (`embedding`; `mmr` if given).
        max_similarity: rows more like the query than this (`ngrams.jaccard` of the instructions, 0 to 1) are
            near-duplicates of it and not shown.
        mmr_lambda: for `mmr`; 1 is relevance alone, 0 diversity alone.

    Raises:
        ConfigError: settings that don't go together, or a column that no row has.
    """

    def __init__(
        self,
        pool: Sequence[Row],
        *,
        select: Select = "random",
        draw: Draw = "item",
        column: str | None = None,
        order: Order | None = None,
        vectors: Vectors | None = None,
        max_similarity: float | None = None,
        mmr_lambda: float = 0.5,
    ) -> None:
        self.select, self.draw, self.column, self.order = select, draw, column, order
        self.max_similarity, self.mmr_lambda, self._has_vectors = max_similarity, mmr_lambda, vectors is not None
        self._check()
        # in an order of their own, so that neither ties nor rounding depend on the pool's
        self._rows = sorted(pool, key=lambda row: (row.id, row.instruction, row.target()))
        self._ranking = Ranking(self._rows, select, vectors, mmr_lambda)
        self._itself: defaultdict[str, list[int]] = defaultdict(list)
        position_of = {}
        for position, row in enumerate(self._rows):
            self._itself[_wording(row)].append(position)
            position_of[id(row)] = position
        self._draws: defaultdict[str | None, _Draws] = defaultdict(_Draws)
        for row in pool:
            value = row.column(column) if select == "same" and column else ""
            self._draws[value].add(position_of[id(row)])
        if select == "same" and pool and set(self._draws) == {None}:
            raise ConfigError(
                "no training row has the column that demonstrations are to share with the query",
                where="select: same",
                found=f"column: {column}",
                expected=", ".join(sorted({name for row in pool for name, _ in row.columns})) or "the data has none",
                fix="name a column of the data, or define it under `data.derive` with a rule that matches its rows",
            )

    def available(self, row: Row) -> int:
        """How many rows may be shown to a row."""
        among, shut = self._among(self._draws_for(row) if self.select in DRAWN else None, self._excluded(row))
        return len(among) - len(shut)

    def choose(self, row: Row, k: int, *, seed: int) -> Chosen:
        """Choose k demonstrations for a row.

        Raises:
            ConfigError: there are fewer than k rows that may be shown to it.
            DataError: the row lacks the column, or a vector.
        """
        if k == 0:
            return Chosen()
        excluded = self._excluded(row)
        draws = self._draws_for(row) if self.select in DRAWN else None
        among, shut = self._among(draws, excluded)
        left = len(among) - len(shut)
        if left < k:
            raise self._too_few(row, k, left)
        if draws is not None:
            without = {draws.numbers[position] for position in shut}
            numbers = drawn_positions(len(among), k, seed=seed, draw=self.draw, row_id=row.id, without=without)
            positions, nearness = [among[number] for number in numbers], None
        else:
            positions, nearness = self._ranking.best(row, k, excluded)
        if self.order in ("nearest-last", "nearest-first"):
            near = self._ranking.alike(row.instruction) if nearness is None else nearness
            positions.sort(key=lambda position: (-near[position], position))
            if self.order == "nearest-last":
                positions.reverse()
        elif self.order == "random" and draws is None:
            random.Random(f"triptych-order:{seed}:{row.id}").shuffle(positions)
        demos = tuple(self._rows[position] for position in positions)
        similarity = tuple(jaccard(row.instruction, demo.instruction) for demo in demos)
        return Chosen(demos, similarity, "first" if self.order == "nearest-last" else "last")

    def _among(self, draws: _Draws | None, excluded: set[int]) -> tuple[Sequence[int], set[int]]:
        """Positions that are chosen from, and those among them that may not be."""
        if draws is None:
            return range(len(self._rows)), excluded
        return draws.positions, excluded & draws.numbers.keys()

    def _excluded(self, row: Row) -> set[int]:
        """Positions of the query itself, and of what is too like it."""
        excluded = set(self._itself.get(_wording(row), ()))
        if self.max_similarity is not None:
            alike = self._ranking.alike(row.instruction)
            excluded.update((alike > self.max_similarity).nonzero()[0].tolist())
        return excluded

    def _draws_for(self, row: Row) -> _Draws:
        if self.select == "random":
            return self._draws[""]
        value = row.column(self.column or "")
        if value is None:
            raise DataError(
                "a row lacks the column that demonstrations are to share with it",
                where=f"row {row.id!r}",
                found=f"no value in `{self.column}`",
                fix="give every row a value, or correct the rule of `data.derive`; a last rule can match all the rest",
            )
        return self._draws.get(value, _Draws())

    def _check(self) -> None:
        """Settings that don't go together."""
        orders = (None, *get_args(Order))
        for key, value, known in (("select", self.select, get_args(Select)), ("order", self.order, orders)):
            if value not in known:
                raise ConfigError(
                    f"unknown `{key}`", where=key, found=repr(value), expected=", ".join(filter(None, known))
                )
        where = f"select: {self.select}"
        if self.select == "same" and not self.column:
            raise ConfigError("`same` needs a column", where=where, fix="name it, e.g. `column: direction`")
        if self.select == "embedding" and not self._has_vectors:
            raise ConfigError("`embedding` needs vectors", where=where, fix="name the model that is to make them")
        if self.draw == "seed" and self.select not in _ONE_SET_WILL_DO:
            raise ConfigError(
                "one set of demonstrations for all rows is asked for, and this strategy chooses for each row",
                where=where,
                found="draw: seed",
                expected="draw: item",
            )
        for key, share in (("max_similarity", self.max_similarity), ("mmr_lambda", self.mmr_lambda)):
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"`{key}` is out of range", where=key, found=str(share), expected="0 to 1")

    def _too_few(self, row: Row, k: int, left: int) -> ConfigError:
        found = f"k = {k}, {left} of {len(self._rows)} rows in the pool"
        if self.select == "same":
            counts = Counter({value: len(draws.positions) for value, draws in self._draws.items() if value is not None})
            named = ", ".join(f"{value!r} {n}" for value, n in counts.most_common(5))
            found += f"; {self.column} is {row.column(self.column or '')!r}, the pool has {named}"
        return ConfigError(
            "more demonstrations are asked for than there are training rows to show",
            where=f"select: {self.select}, row {row.id!r}",
            found=found,
            expected="rows other than the query itself"
            + ("" if self.max_similarity is None else f", at most {self.max_similarity} similar to it"),
            fix="lower k" + ("" if self.max_similarity is None else ", raise max_similarity") + ", or give more rows",
        )


def _wording(row: Row) -> str:
    # punctuation alone normalises to nothing, and says nothing about other punctuation
    return f"text {normalise(row.instruction) or row.instruction}"
