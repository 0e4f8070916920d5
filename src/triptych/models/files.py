"""Which files a model is read from, and their hashes: exactly the files that transformers reads, in its own order.

transformers_weights of config.json  >  model.safetensors  >  the files that model.safetensors.index.json names
>  with allow_pickle: pytorch_model.bin  >  the files that pytorch_model.bin.index.json names
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import ModelError
from triptych.models.cache import file_state, sha256_of_weights
from triptych.models.library_errors import reason_of
from triptych.records.identity import sha256_of
from triptych.records.run_files import ADAPTER_CONFIG

_BOOKKEEPING = frozenset({"transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype"})
"""Keys of config.json that decide no number: who wrote it, and the dtype, which is always asked for by name."""
_READ = (
    *("config.json", "generation_config.json", "*.index.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab*", "merges.txt", "chat_template*", "*.model", "*.tiktoken"),
)
"""Files beside the weights that loading a model and its tokenizer reads."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model in one folder."""

    folder: Path
    weights: Mapping[str, Path]
    """Name in the folder -> file."""

    @property
    def weights_sha256(self) -> str:
        """Of all weight files."""
        return sha256_of_weights(self.weights, where=str(self.folder))

    @property
    def config_sha256(self) -> str:
        """Of config.json, without the keys that decide no number, at any depth."""
        return sha256_of(_deciding(_json(self.folder / "config.json")))

    @property
    def generation_config_sha256(self) -> str | None:
        """Of generation_config.json, which may name tokens that texts end with; None where there is none."""
        path = self.folder / "generation_config.json"
        return sha256_of(_deciding(_json(path))) if path.is_file() else None

    def bytes_of_weights(self) -> int:
        """Size on the disk."""
        return sum(path.stat().st_size for path in self.weights.values() if path.is_file())

    def state(self) -> dict[str, tuple[int, ...]]:
        """Name -> state of every file that loading reads; equal before and after: nothing changed in between."""
        beside = {path.name: path for pattern in _READ for path in self.folder.glob(pattern) if path.is_file()}
        return {name: file_state(path) for name, path in {**beside, **self.weights}.items() if path.is_file()}


def model_files(folder: Path, *, name: str, allow_pickle: bool = False) -> ModelFiles:
    """The files that a model in a folder is read from. They may be missing, which loading or hashing them says.

    Args:
        folder: the model's.
        name: as the user gave it, for errors.
        allow_pickle: whether `pytorch_model.bin` may stand in for safetensors.

    Raises:
        ModelError: the model's folder holds an adapter, or an index of weights can't be read.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            "the model's folder holds an adapter too, which transformers would attach unseen",
            where=name,
            found="adapter_config.json beside config.json",
            fix="move the adapter's files into a folder of their own and name it with --adapter, or take them away",
        )
    return ModelFiles(folder, {part: folder / part for part in _weight_names(folder, allow_pickle)})


def _weight_names(folder: Path, allow_pickle: bool) -> list[str]:
    named = _named_by_config(folder)
    kinds = ["model.safetensors", *(["pytorch_model.bin"] if allow_pickle else [])]
    for first in (*([named] if named else []), *kinds):
        if first.endswith(".index.json"):
            return _indexed(folder / first)
        if first == named or (folder / first).is_file():
            return [first]
        if (folder / f"{first}.index.json").is_file():
            return _indexed(folder / f"{first}.index.json")
    return sorted(path.name for path in folder.glob("*.safetensors"))  # transformers reads none: loading says so


def _named_by_config(folder: Path) -> str | None:
    try:
        named = _json(folder / "config.json").get("transformers_weights")
    except ModelError:  # loading it says what is wrong
        return None
    return named if isinstance(named, str) else None


def _indexed(index: Path) -> list[str]:
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(
            "the index of the model's weights names no files",
            where=str(index),
            expected="`weight_map`, which names the file of every weight",
            fix="copy or download the model again",
        )
    return sorted(set(names.values()))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            "a file of the model can't be read as JSON",
            where=str(path),
            found=reason_of(error),
            fix="copy or download the model again",
        ) from error
    if not isinstance(value, dict):
        raise ModelError("a file of the model holds no JSON object", where=str(path), found=type(value).__name__)
    return value


def _deciding(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deciding(item) for key, item in value.items() if key not in _BOOKKEEPING}
    return [_deciding(item) for item in value] if isinstance(value, list) else value
