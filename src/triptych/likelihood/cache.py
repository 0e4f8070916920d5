"""Scores by content: what was scored once, with the same weights and the same tokens, is not computed again.

The key is a hash of everything the numbers depend on: the model (weights, config.json, quantization, how it was made on
this kind of device, dtype, adapter), the versions that computed them, the token ids and where scoring begins. The name
of the experiment, the prompt or the file plays no part, so a rerun, an added cell or another run folder finds what is
there.

The cache is an SQLite file: safe against kills and against two processes at a time. A cache that can't be opened or
written is no cache; scoring goes on without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.models import LoadedModel
from triptych.models.cache import cache_folder
from triptych.prompts import Rendered
from triptych.records.provenance import library_versions
from triptych.version import __version__

__all__ = ["ENGINE", "ScoreCache", "score_cache", "versions"]

logger = logging.getLogger(__name__)
ENGINE = 2
"""Generation of the engine: raised when a change to it moves numbers beyond rounding. 2: config.json is in the key."""

Tokens = np.ndarray[Any, np.dtype[np.float32]]


class ScoreCache:
    """Per-token NLL of rows, by content.

    Args:
        path: the SQLite file; made if it isn't there.
        facts: what the numbers depend on beside the tokens (weights' hash, dtype, device, quantization).
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        everything = {**facts, "engine": ENGINE, "triptych": __version__}
        self._state = json.dumps(everything, sort_keys=True, default=str)
        self._peft = library_versions().get("peft")
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS nll (key BLOB PRIMARY KEY, tokens BLOB NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def get(self, rows: Sequence[Rendered], adapter: str | None) -> list[Tokens | None]:
        """What is known of each row under an adapter (its hash, or None for off)."""
        if self._database is None:
            return [None] * len(rows)
        found: list[Tokens | None] = []
        try:
            for row in rows:
                line = self._database.execute(
                    "SELECT tokens FROM nll WHERE key = ?", (self._key(row, adapter),)
                ).fetchone()
                found.append(None if line is None else _tokens(line[0], row.n_scored))
        except sqlite3.Error as error:
            self._give_up(error)
            return [None] * len(rows)
        return found

    def put(self, rows: Sequence[Rendered], adapter: str | None, tokens: Sequence[Tokens]) -> None:
        """Keep rows, all or none."""
        if self._database is None:
            return
        lines = [(self._key(row, adapter), nll.astype("<f4").tobytes()) for row, nll in zip(rows, tokens, strict=True)]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO nll VALUES (?, ?)", lines)
        except sqlite3.Error as error:
            self._give_up(error)

    def _key(self, row: Rendered, adapter: str | None) -> bytes:
        ids = np.asarray([row.n_prompt, *row.ids], dtype="<i4").tobytes()
        by = f"{adapter}, peft {self._peft}" if adapter else ""
        return hashlib.sha256(f"{self._state}|{by}|".encode() + ids).digest()

    def _give_up(self, error: Exception) -> None:
        logger.warning("the score cache can't be used (%s): everything is computed", error)
        self._database = None


def _tokens(value: Any, n_scored: int) -> Tokens | None:
    """A row's tokens from a line of the file; None where it holds anything else than one number for each."""
    if not isinstance(value, bytes) or len(value) != 4 * n_scored:
        return None
    return np.frombuffer(value, dtype="<f4").astype(np.float32)


def score_cache(loaded: LoadedModel, path: Path | None = None) -> ScoreCache:
    """The user's cache of scores, or one in a file of its own, for one loaded model."""
    names = ("weights_sha256", "config_sha256", "quantize", "double_quant", "weights_held", "dtype", "device")
    libraries = ("torch", "transformers", *(["bitsandbytes"] if loaded.info.get("quantize") != "none" else []))
    facts = {
        **{name: loaded.info.get(name) for name in names},
        # a CPU and a GPU round NF4's block scales differently, and one GPU's products another way than the next one's
        "accelerator": torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else None,
        "versions": {name: version for name, version in library_versions().items() if name in libraries},
    }
    return ScoreCache(path or cache_folder() / "scores.sqlite", facts)


def versions() -> dict[str, str]:
    """Of the libraries and the engine that compute numbers in this process, for records."""
    return {**library_versions(), "engine": str(ENGINE)}
