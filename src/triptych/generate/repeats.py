"""Tokens that would repeat a stretch of the prompt or of what was written: transformers' `no_repeat_ngram_size`.

With n = 3 and the sequence  a b c d a b , the next token may not be c: `a b c` stands there already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence


class Repeats:
    """One sequence of tokens and what follows each of its stretches, kept while it grows.

    Args:
        n: tokens of a stretch that may not stand there twice; at least 2.
        ids: the sequence so far, prompt included.
    """

    def __init__(self, n: int, ids: Sequence[int]) -> None:
        self._n = n
        self._last: list[int] = []
        self._after: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """The sequence goes on with this token."""
        if len(self._last) == self._n - 1:
            self._after[tuple(self._last)].add(token)
        self._last = [*self._last, token][1 - self._n :]

    def banned(self) -> Collection[int]:
        """Tokens that may not come next."""
        if len(self._last) < self._n - 1:
            return ()
        return self._after.get(tuple(self._last), ())
