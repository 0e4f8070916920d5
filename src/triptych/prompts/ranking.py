"""Strategies that rank the pool for a query: BM25, cosine of vectors, maximal marginal relevance, lengths."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from triptych.data import Row
from triptych.errors import DataError
from triptych.prompts.ngrams import Bm25Index, GramIndex, Scores

Vectors = Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]
"""An embedding by instruction: an id could mean one row in train and another in test, a text means itself."""


class Ranking:
    """A pool, ranked for one query after another by one of the strategies in `best`. Of equals the first is better."""

    def __init__(self, rows: Sequence[Row], select: str, vectors: Vectors | None, mmr_lambda: float) -> None:
        self._rows, self._select, self._vectors, self._lambda = rows, select, vectors, mmr_lambda

    def best(self, query: Row, k: int, excluded: Collection[int]) -> tuple[list[int], Scores | None]:
        """Positions of the best k, best first, and how near each row of the pool is by the strategy's own measure.

        The caller knows that there are k that are not excluded. The measure is None for lengths.

        Raises:
            DataError: a row has no vector.
        """
        if self._select == "mmr":
            nearness = self._likeness(query)
            return self._diverse(nearness, k, excluded), nearness
        if self._select in ("bm25", "embedding"):
            is_bm25 = self._select == "bm25"
            nearness = self._bm25.scores(query.instruction) if is_bm25 else self._cosine(query)
            return _first(nearness, k, excluded), nearness
        lengths = np.array([len(row.instruction) for row in self._rows], dtype=np.float64)
        if self._select == "similar-length":
            return _first(-np.abs(lengths - len(query.instruction)), k, excluded), None
        lengths += [len(row.target()) for row in self._rows]
        return _first(lengths if self._select == "longest" else -lengths, k, excluded), None

    def alike(self, text: str) -> Scores:
        """Similarity of the pool's instructions to a text by the characters they share, (n,)."""
        return self._grams.jaccard(text)

    def _diverse(self, relevance: Scores, k: int, excluded: Collection[int]) -> list[int]:
        """Maximal marginal relevance, one after another."""
        shut = np.zeros(len(self._rows))
        shut[list(excluded)] = np.inf
        nearest_chosen = np.zeros(len(self._rows))
        chosen: list[int] = []
        while len(chosen) < k:
            value = self._lambda * relevance - (1 - self._lambda) * nearest_chosen
            position = int(np.argmax(value - shut))
            to_this = self._likeness(self._rows[position])
            nearest_chosen = np.maximum(nearest_chosen, to_this) if chosen else to_this
            shut[position] = np.inf
            chosen.append(position)
        return chosen

    def _likeness(self, row: Row) -> Scores:
        return self.alike(row.instruction) if self._vectors is None else self._cosine(row)

    def _cosine(self, row: Row) -> Scores:
        return np.asarray(self._matrix @ self._unit(row), dtype=np.float64)

    def _unit(self, row: Row) -> np.ndarray[Any, np.dtype[np.float32]]:
        vector = (self._vectors or {}).get(row.instruction)
        if vector is None:
            raise DataError(
                "a row has no embedding, so nothing can be near it",
                where=f"row {row.id!r}",
                fix="embed the instructions of the pool and of the rows to score alike",
            )
        length = float(np.linalg.norm(vector))
        return np.asarray(vector / (length or 1.0), dtype=np.float32)

    @cached_property
    def _matrix(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.stack([self._unit(row) for row in self._rows])

    @cached_property
    def _grams(self) -> GramIndex:
        return GramIndex([row.instruction for row in self._rows])

    @cached_property
    def _bm25(self) -> Bm25Index:
        return Bm25Index([row.instruction for row in self._rows])


def _first(scores: Scores, k: int, excluded: Collection[int]) -> list[int]:
    best: list[int] = np.argsort(-scores, kind="stable").tolist()
    return [position for position in best if position not in excluded][:k]
