"""`file.jsonl#500`: a seeded sample of a stream, the same for any order of its rows, with only the sample in memory.

A row is in the sample if the hash of its content is among the n smallest. So the same rows are drawn from the same
file sorted otherwise, or written as another format with the same texts, and a smaller sample is within a larger one.
Nested samples of training rows, and a dev set held out of train, come from one shuffle of positions. A seed that is
text is hashed with SHA-512 by `random`: nothing here depends on PYTHONHASHSEED or the platform.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections.abc import Iterable, Sequence

from triptych.data.row import RawRow, Row
from triptych.errors import DataError


def sample(rows: Iterable[RawRow], n: int, seed: int, source: str) -> tuple[list[RawRow], int]:
    """Draw `n` rows and return them in the file's order, with the number of rows there were.

    Of rows that are equal in everything, a further copy is drawn only if the first one is, by a hash of its own: a
    file with a row repeated a thousand times doesn't give a sample of that row alone.

    Raises:
        DataError: `n` is 0, or there are fewer rows.
    """
    heap: list[tuple[int, int, bytes, RawRow]] = []  # the largest hash first, to be pushed out first
    copies: dict[bytes, int] = {}  # of contents in the heap
    total = 0
    for total, row in enumerate(rows, 1):  # noqa: B007 - its last value is the number of rows
        content = _digest(seed, row)
        copy = copies.get(content, 0)
        first = int.from_bytes(content[:8])
        key = first if not copy else max(first, int.from_bytes(_again(content, copy)))
        if len(heap) == n and (not n or key >= -heap[0][0]):
            if copy:
                copies[content] = copy + 1
            continue
        copies[content] = copy + 1
        entry = (-key, -row.number, content, row)
        if len(heap) < n:
            heapq.heappush(heap, entry)
        else:
            gone = heapq.heappushpop(heap, entry)[2]
            # a later copy never comes before its first, so this content can't come back; its count isn't needed
            if -heap[0][0] < int.from_bytes(gone[:8]):
                copies.pop(gone, None)
    if not 1 <= n <= total:
        raise DataError(
            "that many rows can't be drawn from the file",
            where=f"{source}#{n}",
            found=f"{n} asked for, {total} there",
            expected=f"a number from 1 to {total} after the #" if total else "no #: there are no rows",
            fix="ask for fewer rows, or leave the # out to use them all" if n else "ask for 1 or more",
        )
    return sorted((entry[3] for entry in heap), key=lambda row: row.number), total


def _digest(seed: int, row: RawRow) -> bytes:
    # surrogates are refused later, with a better message, if the row is drawn
    try:
        content = json.dumps(row.values, ensure_ascii=False, sort_keys=True, default=str)
    except RecursionError:  # it could be read, just: nothing that is used is nested like that
        content = str(row.number)
    return hashlib.blake2b(content.encode(errors="backslashreplace"), digest_size=16, salt=_salt(seed)).digest()


def _salt(seed: int) -> bytes:
    return hashlib.blake2b(f"triptych-sample:{seed}".encode(), digest_size=16).digest()


def _again(content: bytes, copy: int) -> bytes:
    return hashlib.blake2b(content + copy.to_bytes(8), digest_size=8).digest()


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
