"""Which training rows are shown as demonstrations, drawn at random; `selection` has the other ways to choose.

    draw `item`   k rows drawn afresh for each test row, as in the study
    draw `seed`   one set of k rows per seed, the same for every test row

A draw depends on (seed, test row id) and on nothing else: not on the order of the test rows, not on which others are
scored. The draws of one seed are nested: the k = 3 set begins with the k = 1 set, so that two values of k differ by the
demonstrations added and not by luck.
"""

from __future__ import annotations

import random
from collections.abc import Container, Sequence

from triptych.config.choices import Draw
from triptych.data import Row
from triptych.errors import ConfigError


def draw_demos(pool: Sequence[Row], k: int, *, seed: int, draw: Draw, row_id: str) -> tuple[Row, ...]:
    """Draw k distinct rows of `pool`, uniformly, in the order they are shown; with draw `seed` the row id doesn't
    count.

    The caller has taken rows that occur in the test set out of the pool.

    Raises:
        ConfigError: k is larger than the pool.
    """
    if k > len(pool):
        raise ConfigError(
            "more demonstrations are asked for than there are training rows to show",
            where="few_shot.k",
            found=f"k = {k}, {len(pool)} rows in the pool",
            fix="lower k, or give more training rows",
        )
    return tuple(pool[position] for position in drawn_positions(len(pool), k, seed=seed, draw=draw, row_id=row_id))


def drawn_positions(
    n: int, k: int, *, seed: int, draw: Draw, row_id: str, without: Container[int] = frozenset()
) -> list[int]:
    """Draw k distinct numbers below n, uniformly; of `without`, none.

    There must be as many left: the caller has counted. What is left out changes nothing else: the others come in the
    order in which they would have come.
    """
    # A string seed is hashed with SHA-512 by `random`, so the draw is the same on every machine and Python version.
    key = f"triptych-demos:{seed}" if draw == "seed" else f"triptych-demos:{seed}:{row_id}"
    generator = random.Random(key)
    chosen: dict[int, None] = {}
    while len(chosen) < k:  # one at a time, which keeps smaller k a beginning of larger k
        position = generator.randrange(n)
        if position not in without:
            chosen.setdefault(position)
    return list(chosen)
