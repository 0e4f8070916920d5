"""From a model's name to a folder on this machine (a folder, a hub id, a `.gguf` file, a bundled model), and its files.

header_folder   holds config.json and the tokenizer; nothing else is downloaded, and of a GGUF file only the
                metadata at its beginning is read
model_folder    holds the weights too; they are downloaded, or dequantized once to the cache
model_files     exactly the files that transformers reads there, in its own order:
                transformers_weights of config.json  >  model.safetensors  >  the files that its index.json names
                >  with allow_pickle: pytorch_model.bin  >  the files that its index.json names
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.bundled import BUNDLED
from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.bundled import bundled_gguf
from triptych.models.cache import file_state, sha256_of_large_file
from triptych.models.gguf import gguf_header, unpack_gguf
from triptych.models.library_errors import LIBRARY_ERRORS, explained, reason_of
from triptych.records.disk import at_home, is_there
from triptych.records.identity import sha256_of
from triptych.records.run_files import ADAPTER_CONFIG

_HEADER = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.spm", "*.jinja")
"""Configuration, tokenizer and chat template, as model families name them."""
_BOOKKEEPING = frozenset({"transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype"})
"""Keys of config.json that decide no number: who wrote it, and the dtype, which is always asked for by name."""
_READ = (
    *("config.json", "generation_config.json", "*.index.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab*", "merges.txt", "chat_template*", "*.model", "*.tiktoken"),
)
"""Files beside the weights that loading a model and its tokenizer reads."""
_BUNDLED = "or " + ", ".join(f"`{name}`" for name in BUNDLED)
_EXPECTED = "config.json, *.safetensors and tokenizer files"


def header_folder(spec: ModelConfig) -> Path:
    """The folder to read a model's configuration and tokenizer from.

    Raises:
        ModelError: there is no such model, or the hub that has it can't be reached.
    """
    place = _find(spec.name)
    if place is None:
        return _download(spec, _HEADER)
    return gguf_header(place) if place.suffix == ".gguf" else place


def model_folder(spec: ModelConfig) -> Path:
    """The folder to load a model from.

    Raises:
        ModelError: there is no such model, it can't be read, or the hub that has it can't be reached.
        DiskError: no room to dequantize a GGUF file.
    """
    place = _find(spec.name)
    if place is None:
        return _download(spec, (*_HEADER, "*.safetensors", *(["pytorch_model*.bin"] if spec.allow_pickle else [])))
    return unpack_gguf(place) if place.suffix == ".gguf" else place


def is_hub_id(name: str) -> bool:
    """Whether a model's name is looked up on the hub."""
    return not is_gguf(name) and _find(name) is None


def is_gguf(name: str) -> bool:
    """Whether a model is dequantized before it can be loaded."""
    return name in BUNDLED or Path(name).suffix == ".gguf"


def unreadable(error: Exception, name: str) -> ModelError:
    """What a library's error on a model's files means to the user."""
    return explained(
        error,
        "the model can't be loaded",
        where=name,
        expected=f"config.json and *.safetensors in a folder, a .gguf file, a hub id that can be reached, {_BUNDLED}",
        fix="check what `found` names, or copy or download the model again"
        if is_there(at_home(name))
        else "check the name, and that you may read it (`hf auth login` for gated models); without a network, "
        "give a folder",
    )


def _find(name: str) -> Path | None:
    """A model's folder or GGUF file; None for a hub id."""
    if name in BUNDLED:
        return bundled_gguf(name)
    path = Path(at_home(name))
    if path.suffix == ".gguf":
        if not is_there(path, Path.is_file):
            raise ModelError("there is no such GGUF file", where=name, fix="check the path")
        return path
    if is_there(path, Path.is_dir):
        _check_folder(path, name)
        return path
    if is_there(path, Path.is_file) or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            "there is no such model folder",
            where=name,
            expected=f"a folder, a .gguf file, a hub id such as owner/name, {_BUNDLED}",
        )
    return None


def _check_folder(path: Path, name: str) -> None:
    if (path / "config.json").is_file():
        return
    if (path / ADAPTER_CONFIG).is_file():
        raise ModelError(
            "this folder holds an adapter, not a model",
            where=name,
            found="adapter_config.json and no config.json",
            expected=_EXPECTED,
            fix=f"give the base model with --model, and this folder with --adapter {name}",
        )
    raise ModelError(
        "this folder is not a model",
        where=name,
        found=", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing",
        expected=_EXPECTED,
        fix="give the folder that transformers' save_pretrained wrote",
    )


def _download(spec: ModelConfig, patterns: tuple[str, ...]) -> Path:
    """The hub's cache folder of one revision, with the files of these names in it."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(spec.name, revision=spec.revision, allow_patterns=list(patterns)))
    except LIBRARY_ERRORS as error:  # no network, no such model, no right to it
        raise unreadable(error, spec.name) from error
    _check_folder(folder, spec.name)
    return folder


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model in one folder."""

    folder: Path
    weights: Mapping[str, Path]
    """Name in the folder -> file."""

    @property
    def weights_sha256(self) -> str:
        """One hash over the contents of all weight files, in the order of their names."""
        if not self.weights:
            raise ModelError(
                "there are no weights to identify the model by",
                where=str(self.folder),
                expected="model.safetensors, or model.safetensors.index.json and the files it names",
                fix="copy or download the model again",
            )
        total = hashlib.sha256()
        for name, path in sorted(self.weights.items()):
            total.update(f"{name}:{sha256_of_large_file(path)}\n".encode())
        return total.hexdigest()

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


def model_files(folder: Path, spec: ModelConfig) -> ModelFiles:
    """The files that a model in a folder is read from. They may be missing: loading or hashing reports that.

    Raises:
        ModelError: the model's folder holds an adapter, or an index of weights can't be read.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            "the model's folder holds an adapter too, which transformers would attach unseen",
            where=spec.name,
            found="adapter_config.json beside config.json",
            fix="move the adapter's files into a folder of their own and name it with --adapter, or take them away",
        )
    return ModelFiles(folder, {part: folder / part for part in _weight_names(folder, spec.allow_pickle)})


def _weight_names(folder: Path, allow_pickle: bool) -> list[str]:
    try:
        named = _json(folder / "config.json").get("transformers_weights")
    except ModelError:  # loading reports what is wrong
        named = None
    kinds = ["model.safetensors", *(["pytorch_model.bin"] if allow_pickle else [])]
    for first in (*([named] if isinstance(named, str) and named else []), *kinds):
        if first.endswith(".index.json"):
            return _indexed(folder / first)
        if first == named or (folder / first).is_file():
            return [first]
        if (folder / f"{first}.index.json").is_file():
            return _indexed(folder / f"{first}.index.json")
    return sorted(path.name for path in folder.glob("*.safetensors"))  # transformers reads none: loading says so


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
