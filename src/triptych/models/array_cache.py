"""Arrays by content, in an SQLite file: what the caches of scores and of embeddings keep theirs in."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[np.float32]]


class ArrayCache:
    """One-dimensional float32 arrays by key: safe against kills and against two processes at a time.

    A file that can't be opened, read or written is no cache: that is said once, and nothing is found in it.

    Args:
        path: the file; made if it isn't there.
        table: what it holds, as a name.
    """

    def __init__(self, path: Path, table: str) -> None:
        self._table = table
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def get(self, keys: Sequence[bytes]) -> list[Array | None]:
        """The array of each key; None where there is none, or anything else than finite numbers."""
        if self._database is None:
            return [None] * len(keys)
        query = f"SELECT * FROM {self._table} WHERE key = ?"
        try:
            lines = [self._database.execute(query, (key,)).fetchone() for key in keys]
        except sqlite3.Error as error:
            self._give_up(error)
            return [None] * len(keys)
        return [None if line is None else _array(line[1]) for line in lines]

    def put(self, entries: Iterable[tuple[bytes, Array]]) -> None:
        """Keep arrays, all or none."""
        if self._database is None:
            return
        lines = [(key, array.astype("<f4").tobytes()) for key, array in entries]
        try:
            with self._database:
                self._database.executemany(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", lines)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()

    def _give_up(self, error: Exception) -> None:
        logger.warning("a cache can't be used (%s): what it would hold (%s) is computed", error, self._table)
        self.close()
        self._database = None


def _array(value: Any) -> Array | None:
    if not isinstance(value, bytes) or not value or len(value) % 4:
        return None
    array = np.frombuffer(value, dtype="<f4").astype(np.float32)
    return array if np.isfinite(array).all() else None
