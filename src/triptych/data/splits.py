"""Fewer rows, the same ones every time: nested samples for learning curves, and a dev set held out of train.

Both shuffle positions with a generator seeded by text: Python hashes that with SHA-512, so the choice depends on
neither PYTHONHASHSEED nor the platform.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from triptych.data.row import Row
from triptych.errors import DataError


def take(rows: Sequence[Row], n: int | None, seed: int) -> list[Row]:
    """Draw `n` rows at random and return them in their own order; None means all.

    Nested: with the same rows and seed, the rows of a smaller `n` are among those of a larger one.

    Raises:
        DataError: `n` is below 1 or above the number of rows.
    """
    if n is None:
        return list(rows)
    if not 1 <= n <= len(rows):
        raise DataError(
            "that many rows can't be taken",
            found=f"{n} asked for, {len(rows)} there",
            expected=f"a number from 1 to {len(rows)}, or none for all" if rows else "no number: there are no rows",
            fix="ask for fewer rows, or leave the number out to use them all" if n > len(rows) else "ask for more",
        )
    # random.sample(n) draws differently for each n; the head of one full shuffle is what makes samples nested
    return [rows[i] for i in sorted(_shuffled(len(rows), f"triptych-take:{seed}")[:n])]


def split_dev(rows: Sequence[Row], n_dev: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Hold `n_dev` rows out: (train, dev), disjoint, each in the rows' own order. 0 holds out none.

    Raises:
        DataError: `n_dev` is negative, or would leave no row to train on.
    """
    if n_dev == 0:
        return list(rows), []
    if not 0 <= n_dev < len(rows):
        raise DataError(
            "that many dev rows can't be held out",
            found=f"{n_dev} asked for, {len(rows)} train rows there",
            expected=f"a number from 0 to {max(len(rows) - 1, 0)}: at least one row must be left to train on",
            fix="ask for fewer dev rows" if n_dev > 0 else "use 0 for no dev set",
        )
    dev = set(_shuffled(len(rows), f"triptych-dev:{seed}")[:n_dev])
    return [row for i, row in enumerate(rows) if i not in dev], [row for i, row in enumerate(rows) if i in dev]


def _shuffled(n: int, seed: str) -> list[int]:
    positions = list(range(n))
    random.Random(seed).shuffle(positions)
    return positions
