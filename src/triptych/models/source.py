"""From a model's name to a folder on this machine: a folder itself, a hub id, a `.gguf` file, or `demo`.

header_folder   holds config.json and the tokenizer; nothing else is downloaded, and of a GGUF file only the
                metadata at its beginning is read
model_folder    holds the weights too; they are downloaded, or dequantized once to the cache
"""

from __future__ import annotations

from pathlib import Path

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.gguf import DEMO, demo_gguf, gguf_header, unpack_gguf
from triptych.models.library_errors import LIBRARY_ERRORS, explained
from triptych.records.home import at_home, is_there
from triptych.records.run_files import ADAPTER_CONFIG

_HEADER = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.spm", "*.jinja")
"""Configuration, tokenizer and chat template, as model families name them."""
_WEIGHTS = ("*.safetensors",)
_PICKLED = ("pytorch_model*.bin",)
"""Downloaded only where pickles are allowed."""
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
        return _download(spec, (*_HEADER, *_WEIGHTS, *(_PICKLED if spec.allow_pickle else ())))
    return unpack_gguf(place) if place.suffix == ".gguf" else place


def is_hub_id(name: str) -> bool:
    """Whether a model's name is looked up on the hub."""
    return not is_gguf(name) and _find(name) is None


def is_gguf(name: str) -> bool:
    """Whether a model is dequantized before it can be loaded."""
    return name == DEMO or Path(name).suffix == ".gguf"


def unreadable(error: Exception, name: str) -> ModelError:
    """What a library's error on a model's files means to the user."""
    return explained(
        error,
        "the model can't be loaded",
        where=name,
        expected="config.json and *.safetensors in a folder, a .gguf file, a hub id that can be reached, or `demo`",
        fix="check what `found` names, or copy or download the model again"
        if is_there(at_home(name))
        else "check the name, and that you may read it (`hf auth login` for gated models); without a network, "
        "give a folder",
    )


def _find(name: str) -> Path | None:
    """A model's folder or GGUF file; None for a hub id."""
    if name == DEMO:
        return demo_gguf()
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
            expected="a folder, a .gguf file, a hub id such as owner/name, or `demo`",
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
