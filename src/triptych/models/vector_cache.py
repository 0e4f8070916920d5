"""Embeddings by content, in the user's cache. A cache that can't be opened or written is no cache."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["VectorCache"]

logger = logging.getLogger(__name__)

Vector = np.ndarray[Any, np.dtype[np.float32]]


class VectorCache:
    """Vectors by key in an SQLite file: safe against kills and against two processes at a time."""

    def __init__(self, path: Path) -> None:
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def get(self, keys: Mapping[str, bytes]) -> dict[str, Vector]:
        """The known of these."""
        found: dict[str, Vector] = {}
        if self._database is None:
            return found
        try:
            for text, key in keys.items():
                line = self._database.execute("SELECT value FROM vector WHERE key = ?", (key,)).fetchone()
                if line is not None and (vector := _vector(line[0])) is not None:
                    found[text] = vector
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        sizes = {len(vector) for vector in found.values()}
        return found if len(sizes) < 2 else {}  # of one model all have one length

    def put(self, entries: Sequence[tuple[bytes, Vector]]) -> None:
        """Keep some."""
        if self._database is None:
            return
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO vector VALUES (?, ?)",
                    [(key, vector.astype("<f4").tobytes()) for key, vector in entries],
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()

    def _give_up(self, error: Exception) -> None:
        logger.warning("embeddings are not kept: %s", error)
        self.close()
        self._database = None


def _vector(value: Any) -> Vector | None:
    """A vector from a line of the file; None where it holds anything else than finite numbers."""
    if not isinstance(value, bytes) or not value or len(value) % 4:
        return None
    vector = np.frombuffer(value, dtype="<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else None
