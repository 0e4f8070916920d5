"""How alike two texts are, by the characters they share: works for Chinese without a list of words.

A text's grams are its characters and its pairs of neighbouring characters, case folded, every stretch of whitespace one
space. The similarity of two texts is the Jaccard index of their sets of grams: shared / all, from 0 to 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

K1, B = 1.5, 0.75  # of BM25: the library's defaults
Scores = np.ndarray[Any, np.dtype[np.float64]]


def grams(text: str) -> list[str]:
    """Characters and pairs of neighbours, as often as they occur."""
    text = " ".join(text.casefold().split())
    return [*text, *(text[i : i + 2] for i in range(len(text) - 1))]


def jaccard(a: str, b: str) -> float:
    """Similarity of two texts; two texts without a character are alike."""
    of_a, of_b = set(grams(a)), set(grams(b))
    return len(of_a & of_b) / len(of_a | of_b) if of_a or of_b else 1.0


class GramIndex:
    """Many texts, to be compared with one at a time."""

    def __init__(self, texts: Sequence[str]) -> None:
        where: dict[str, list[int]] = {}
        sizes = []
        for position, text in enumerate(texts):
            own = set(grams(text))
            sizes.append(len(own))
            for gram in own:
                where.setdefault(gram, []).append(position)
        self._where = {gram: np.array(positions, dtype=np.int64) for gram, positions in where.items()}
        self._sizes = np.array(sizes, dtype=np.int64)

    def jaccard(self, text: str) -> Scores:
        """Similarity to each of the texts, (n,): what `jaccard` gives for each."""
        own = set(grams(text))
        positions = [self._where[gram] for gram in own if gram in self._where]
        met = np.concatenate(positions) if positions else np.zeros(0, dtype=np.int64)
        shared = np.bincount(met, minlength=len(self._sizes))
        union = self._sizes + len(own) - shared
        return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


class Bm25Index:
    """Many texts, to be ranked by BM25 (Robertson & Zaragoza 2009, in Lucene's form): how much of a query's rare
    wording they share; terms are grams."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every step
        self._n = len(texts)
        terms = [grams(text) for text in texts]
        self._index: Any = None
        if any(terms):  # the library can't index nothing
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(terms, show_progress=False)

    def scores(self, text: str) -> Scores:
        """Relevance of each text to this one, (n,); 0 where nothing is shared."""
        token_ids = self._index.get_tokens_ids(grams(text)) if self._index else []
        if not token_ids:
            return np.zeros(self._n)
        return np.asarray(self._index.get_scores_from_ids(token_ids), dtype=np.float64)
