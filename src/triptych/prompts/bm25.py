"""BM25 over character grams (Robertson & Zaragoza 2009, in Lucene's form), by the library `bm25s`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.prompts.ngrams import grams

K1, B = 1.5, 0.75  # the library's defaults


class Bm25Index:
    """Texts to be ranked by how much of a query's rare wording they share; terms are those of `ngrams.grams`."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every step
        self._n = len(texts)
        terms = [grams(text) for text in texts]
        self._index: Any = None
        if any(terms):  # the library can't index nothing
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(terms, show_progress=False)

    def scores(self, text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Relevance of each text to this one, (n,); 0 where nothing is shared."""
        token_ids = self._index.get_tokens_ids(grams(text)) if self._index else []
        if not token_ids:
            return np.zeros(self._n)
        return np.asarray(self._index.get_scores_from_ids(token_ids), dtype=np.float64)
