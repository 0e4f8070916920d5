"""The user's cache: unpacked GGUF models, hashes of large files, and arrays (scores, embeddings) in SQLite files."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import DiskError, ModelError
from triptych.records.disk import sha256_of_file
from triptych.records.run_files import json_or_none
from triptych.records.store import write_json

logger = logging.getLogger(__name__)
Array = np.ndarray[Any, np.dtype[np.float32]]
_SHA256 = re.compile("[0-9a-f]{64}")
_SAMPLED, _SAMPLE = 16, 1 << 16
_SETTLED = 2.0
"""Seconds: within a clock tick of a write, another write leaves the same times."""
_warned: set[str] = set()


def cache_folder() -> Path:
    """`$TRIPTYCH_CACHE`, else `$XDG_CACHE_HOME/triptych`, else `~/.cache/triptych`; without a home, a temporary folder.

    It may be missing or read-only: what can't be kept there is made again, with one warning (`warn_not_kept`). What
    can't be used without a file goes to `writable_cache`.
    """
    if chosen := os.environ.get("TRIPTYCH_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "triptych"
    try:
        return Path.home() / ".cache" / "triptych"
    except RuntimeError as error:  # no HOME, and no entry for the user
        warn_not_kept("what is made once", error)
        return _temporary()


def writable_cache() -> Path:
    """The cache's folder where it can be written to, else a temporary one that is removed when the process ends."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warn_not_kept("what is made once", error)
        return _temporary()


@cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="triptych-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def warn_not_kept(what: str, error: Exception) -> None:
    """Warn, once for each kind of thing, that it is not kept in the cache, and will be made again."""
    if what not in _warned:
        _warned.add(what)
        logger.warning(
            "the cache can't be used: %s is not kept (%s); set TRIPTYCH_CACHE to another folder", what, error
        )


def file_state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced: device, inode, size, and the times of content and of inode.

    `os.utime` can set the time of the content back; the time of the inode moves with every change, and nothing sets it.
    """
    state = path.stat()
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def sha256_of_large_file(path: Path) -> str:
    """SHA-256 of a file. Hashing 14 GB takes a while, so it is remembered for as long as the file is the same.

    The same is: the same `file_state`, and the same content at its beginning, its end and between, which is read each
    time. A file that was written a moment ago is not remembered, since a second write might leave the same times.

    Raises:
        ModelError: the file isn't there, or was written while it was read.
    """
    remembered_at = cache_folder() / "file-hashes.json"
    try:
        real = path.resolve(strict=True)
        before = file_state(real)
        key, sample = ":".join([str(real), *map(str, before)]), _sample(real, before[2])
        entry = _read(remembered_at).get(key)
        if isinstance(entry, dict) and entry.get("sample") == sample and _SHA256.fullmatch(str(entry.get("sha256"))):
            return str(entry["sha256"])
        sha256 = sha256_of_file(real)
        after = file_state(real)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            "a file of the model's weights is missing",
            where=str(path),
            fix="copy or download the model again; all files that its index names are needed",
        ) from error
    if after != before:
        raise ModelError(
            "a file of the model was written while it was read",
            where=str(path),
            fix="run the same command again when nothing writes to the model's files",
        )
    if time.time() - max(before[3], before[4]) / 1e9 > _SETTLED:
        try:
            write_json(remembered_at, {**_read(remembered_at), key: {"sha256": sha256, "sample": sample}})
        except (DiskError, OSError) as error:
            warn_not_kept("hashes of model files", error.__cause__ if isinstance(error.__cause__, OSError) else error)
    return sha256


def _read(path: Path) -> dict[str, Any]:
    value = json_or_none(path)
    return value if isinstance(value, dict) else {}  # a cache that can't be read is empty


def _sample(path: Path, size: int) -> str:
    """Hash of blocks spread evenly over a file, the first (a safetensors header's place) and the last included."""
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - _SAMPLE)
    with path.open("rb") as file:
        for at in sorted({last * part // (_SAMPLED - 1) for part in range(_SAMPLED)}):
            file.seek(at)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


class ArrayCache:
    """One-dimensional float32 arrays by key: safe against kills and against two processes at a time.

    A file that can't be opened, read or written counts as an empty cache, with a warning. `table` names what it holds.
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
