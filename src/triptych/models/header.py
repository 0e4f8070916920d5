"""A model's configuration and tokenizer, read without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.model import ModelConfig
from triptych.models.config_limits import check_config_file
from triptych.models.files import model_files
from triptych.models.gguf import DEMO, demo_is_unpacked
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE
from triptych.models.source import header_folder, is_gguf, is_hub_id, unreadable
from triptych.models.tokenizer import TokenizerProfile, load_tokenizer, profile_of


@dataclass(frozen=True)
class ModelHeader:
    """What is known of a model before its weights are read."""

    config: Any
    """The transformers configuration."""
    profile: TokenizerProfile
    to_download: bool
    """The weights are not on this machine (a hub id that is not in the hub's cache)."""
    to_unpack: bool
    """A GGUF file that was not dequantized into the cache yet."""


def read_header(spec: ModelConfig) -> ModelHeader:
    """Configuration and tokenizer of a hub id, folder, `.gguf` file or `demo`.

    Raises:
        ModelError: there is no such model, its header can't be read, or it is on the hub and the hub can't be reached.
    """
    folder = header_folder(spec)
    to_download = False
    if is_hub_id(spec.name):
        weights = model_files(folder, name=spec.name, allow_pickle=spec.allow_pickle).weights.values()
        to_download = not weights or not all(path.is_file() for path in weights)
    to_unpack = is_gguf(spec.name) and not (spec.name == DEMO and demo_is_unpacked())
    return ModelHeader(model_config(folder, name=spec.name), profile_in(folder, name=spec.name), to_download, to_unpack)


def load_profile(spec: ModelConfig) -> TokenizerProfile:
    """The tokenizer profile alone: no weights are downloaded, unpacked or read.

    Raises:
        ModelError: there is no such model, or it has no usable tokenizer.
    """
    return profile_in(header_folder(spec), name=spec.name)


def profile_in(folder: Path, *, name: str) -> TokenizerProfile:
    """The tokenizer profile of a model's folder; `name` is the model's, for errors."""
    config = model_config(folder, name=name)  # first: the tokenizer's classes read it too, and would be blamed for it
    return profile_of(load_tokenizer(folder, name=name), getattr(config, "eos_token_id", None))


def model_config(folder: str | Path, *, name: str | None = None) -> Any:
    """A model folder's config.json, as transformers reads it.

    Args:
        folder: the model's.
        name: the model as the user gave it, for errors; None: the folder.

    Raises:
        ModelError: it can't be read, or describes a model larger than any there is.
    """
    from transformers import AutoConfig

    check_config_file(Path(folder) / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, **NO_CODE)
    except LIBRARY_ERRORS as error:
        raise unreadable(error, name or str(folder)) from error
