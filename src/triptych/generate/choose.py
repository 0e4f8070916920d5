"""Choosing the next token: the likeliest, or one drawn; and which would repeat what is there."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from triptych.generate.settings import GenerationSettings
from triptych.likelihood.head import Head

_CHUNK_COLUMNS = 8192  # of the vocabulary at a time, so that no [rows, vocabulary] tensor is made


class Chooser:
    """Next tokens of rows, which are named by their index in `row_ids`; each draws from a generator of its own.

    `temperature` 0 is greedy, else temperature, `top_k` and `top_p` are transformers' own.
    """

    def __init__(self, head: Head, settings: GenerationSettings, row_ids: Sequence[str]) -> None:
        self._head = head
        self._warpers = _warpers(settings) if settings.temperature else None
        self._seed, self._row_ids = settings.seed, row_ids
        self._generators: dict[int, torch.Generator] = {}

    def __call__(
        self, hidden: Tensor, rows: Sequence[int], banned: Sequence[Collection[int]] | None = None
    ) -> list[int]:
        """hidden [N, C] of the rows with these N indices -> their next tokens, none of them banned for its row."""
        pairs = [(at, token) for at, tokens in enumerate(banned or ()) for token in sorted(tokens)]
        if self._warpers is None:
            return self._likeliest(hidden, pairs)
        logits = self._head.logits(hidden, slice(None))
        for at, token in pairs:
            logits[at, token] = float("-inf")
        probs = self._warpers(torch.empty(len(rows), 0, dtype=torch.long), logits).softmax(-1).cpu()
        return [self._draw(one, row) for one, row in zip(probs, rows, strict=True)]

    def _draw(self, probs: Tensor, row: int) -> int:
        if row not in self._generators:
            self._generators[row] = torch.Generator().manual_seed(seed_of(self._seed, self._row_ids[row]))
        return int(torch.multinomial(probs, 1, generator=self._generators[row]))

    def _likeliest(self, hidden: Tensor, banned: Sequence[tuple[int, int]]) -> list[int]:
        """The first of the largest logits, as argmax over all of them at once would find it."""
        best = torch.full((hidden.shape[0],), float("-inf"), device=hidden.device)
        token = torch.zeros(hidden.shape[0], dtype=torch.long, device=hidden.device)
        for start in range(0, self._head.weight.shape[0], _CHUNK_COLUMNS):
            logits = self._head.logits(hidden, slice(start, start + _CHUNK_COLUMNS))
            for row, column in banned:
                if start <= column < start + _CHUNK_COLUMNS:
                    logits[row, column - start] = float("-inf")
            top, at = logits.max(1)
            better = top > best
            best, token = torch.where(better, top, best), torch.where(better, at + start, token)
        tokens: list[int] = token.tolist()
        return tokens


def seed_of(seed: int, row_id: str) -> int:
    """Seed of a row's own random numbers; it depends on no other row, nor on their order."""
    digest = hashlib.sha256(f"triptych-generate:{seed}:{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _warpers(settings: GenerationSettings) -> Any:
    from transformers.generation import logits_process as process

    chain = process.LogitsProcessorList([process.TemperatureLogitsWarper(float(settings.temperature))])
    if settings.top_k:
        chain.append(process.TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        chain.append(process.TopPLogitsWarper(settings.top_p))
    return chain


class Repeats:
    """Tokens that would repeat `n` tokens (2 or more) of prompt or output: transformers' `no_repeat_ngram_size`.

    With n = 3 and the sequence  a b c d a b , the next token may not be c: `a b c` is there already.
    """

    def __init__(self, n: int, ids: Sequence[int]) -> None:
        self._n = n
        self._last: list[int] = []
        self._after: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token to the sequence."""
        if len(self._last) == self._n - 1:
            self._after[tuple(self._last)].add(token)
        self._last = [*self._last, token][1 - self._n :]

    def banned(self) -> Collection[int]:
        """Tokens that may not come next."""
        if len(self._last) < self._n - 1:
            return ()
        return self._after.get(tuple(self._last), ())
