"""Scores by content: what was scored once, with the same weights and the same tokens, is not computed again.

The key is a hash of everything the numbers depend on: the model (weights, config.json, quantization, how it was made on
this kind of device, dtype, adapter), the versions that computed them, the token ids and where scoring begins. It does
not include names of experiment, prompt or file: a rerun, an added cell or another run folder finds the same scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from triptych.models import LoadedModel
from triptych.models.cache import Array, ArrayCache, cache_folder
from triptych.records.provenance import library_versions
from triptych.version import __version__

ENGINE = 2
"""Generation of the engine: raised when a change to it moves numbers beyond rounding. 2: config.json is in the key."""


class Scored(Protocol):
    """What scores are kept of: a rendered row, or other content of token ids."""

    @property
    def n_prompt(self) -> int:
        """Where scoring begins."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def n_scored(self) -> int:
        """How many numbers belong to it."""


class Content(NamedTuple):
    """Content that is no row."""

    n_prompt: int
    ids: Sequence[int]
    n_scored: int


class ScoreCache:
    """Per-token NLL of rows, by content, in an SQLite file; made if it isn't there.

    `facts`: what the numbers depend on beside the tokens (weights' hash, dtype, device, quantization).
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        everything = {**facts, "engine": ENGINE, "triptych": __version__}
        self._state = json.dumps(everything, sort_keys=True, default=str)
        self._peft = library_versions().get("peft")
        self._arrays = ArrayCache(path, "nll")

    def get(self, rows: Sequence[Scored], adapter: str | None) -> list[Array | None]:
        """The NLLs of each row with an adapter (its hash; None: without one); None for a row that isn't stored."""
        arrays = self._arrays.get([self._key(row, adapter) for row in rows])
        pairs = zip(rows, arrays, strict=True)
        return [None if array is None or len(array) != row.n_scored else array for row, array in pairs]

    def put(self, rows: Sequence[Scored], adapter: str | None, tokens: Sequence[Array]) -> None:
        """Store rows, all or none."""
        self._arrays.put((self._key(row, adapter), nll) for row, nll in zip(rows, tokens, strict=True))

    def _key(self, row: Scored, adapter: str | None) -> bytes:
        ids = np.asarray([row.n_prompt, *row.ids], dtype="<i4").tobytes()
        by = f"{adapter}, peft {self._peft}" if adapter else ""
        return hashlib.sha256(f"{self._state}|{by}|".encode() + ids).digest()


def score_cache(loaded: LoadedModel, path: Path | None = None) -> ScoreCache:
    """The user's cache of scores, or one in a file of its own, for one loaded model."""
    return ScoreCache(path or cache_folder() / "scores.sqlite", model_facts(loaded))


def model_facts(loaded: LoadedModel) -> dict[str, Any]:
    """All of a loaded model that its numbers depend on, without its adapter and the engine."""
    names = ("weights_sha256", "config_sha256", "quantize", "double_quant", "weights_held", "dtype", "device")
    libraries = ("torch", "transformers", *(["bitsandbytes"] if loaded.info.get("quantize") != "none" else []))
    return {
        **{name: loaded.info.get(name) for name in names},
        # a CPU and a GPU round NF4's block scales differently, and one GPU's products another way than the next one's
        "accelerator": torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else None,
        "versions": {name: version for name, version in library_versions().items() if name in libraries},
    }


def versions() -> dict[str, str]:
    """Of the libraries and the engine that compute numbers in this process, for records."""
    return {**library_versions(), "engine": str(ENGINE)}
