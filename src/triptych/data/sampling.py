"""`file.jsonl#500`: a seeded sample of a stream, the same for any order of its rows, with only the sample in memory.

A row is in the sample if the hash of its content is among the n smallest. So the same rows are drawn from the same
file sorted otherwise, or written as another format with the same texts, and a smaller sample is within a larger one.
Which rows are drawn doesn't depend on PYTHONHASHSEED or the platform.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable

from triptych.data.raw import RawRow
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
