"""A model's configuration and tokenizer, read without its weights, and how large a model a config.json may describe.

A typing error in config.json must not fill the memory before it is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.bundled import BUNDLED
from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.gguf import is_unpacked
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE
from triptych.models.source import header_folder, is_gguf, is_hub_id, model_files, unreadable
from triptych.models.tokenizer import TokenizerProfile, load_tokenizer, profile_of
from triptych.records.run_files import json_or_none

LARGEST_FILE = 10_000_000
"""Bytes of a config.json or an adapter_config.json; the largest of published models has some hundred thousand."""
_LIMITS = (
    (re.compile(r"(^|_)(layers?|blocks?|depth)$"), 2_000, "layers"),
    (re.compile(r"experts$"), 10_000, "experts"),
    (re.compile(r"(^|_)heads?$"), 100_000, "heads"),
    (re.compile(r"^vocab_size$"), 100_000_000, "tokens"),
    (re.compile(r"^(hidden_size|d_model|n_embd|intermediate_size|ffn_dim|n_inner|d_ff)$"), 10_000_000, "channels"),
)
_PER_LAYER = re.compile(r"layer|block")


@dataclass(frozen=True)
class ModelHeader:
    """What can be read of a model without its weights."""

    config: Any
    """The transformers configuration."""
    profile: TokenizerProfile
    to_download: bool
    """The weights are not on this machine (a hub id that is not in the hub's cache)."""
    to_unpack: bool
    """A GGUF file that was not dequantized into the cache yet."""


def read_header(spec: ModelConfig) -> ModelHeader:
    """Configuration and tokenizer of a hub id, folder, `.gguf` file or bundled model.

    Raises:
        ModelError: there is no such model, its header can't be read, or it is on the hub and the hub can't be reached.
    """
    folder = header_folder(spec)
    to_download = False
    if is_hub_id(spec.name):
        weights = model_files(folder, spec).weights.values()
        to_download = not weights or not all(path.is_file() for path in weights)
    bundled = BUNDLED.get(spec.name)
    to_unpack = is_gguf(spec.name) and not (bundled and is_unpacked(bundled.sha256))
    return ModelHeader(model_config(folder, name=spec.name), profile_in(folder, name=spec.name), to_download, to_unpack)


def load_profile(spec: ModelConfig) -> TokenizerProfile:
    """The tokenizer profile alone: no weights are downloaded, unpacked or read.

    Raises:
        ModelError: there is no such model, or it has no usable tokenizer.
    """
    return profile_in(header_folder(spec), name=spec.name)


def has_chat_template(spec: ModelConfig) -> bool:
    """Whether the model comes with a chat template: what its profile says, without building the tokenizer.

    Raises:
        ModelError: there is no such model, or it is on the hub and the hub can't be reached.
    """
    folder = header_folder(spec)
    if (folder / "chat_template.jinja").is_file():
        return True
    config = json_or_none(folder / "tokenizer_config.json")
    return isinstance(config, dict) and bool(config.get("chat_template"))


def profile_in(folder: Path, *, name: str) -> TokenizerProfile:
    """The tokenizer profile of a model's folder; `name` is the model's, for errors."""
    config = model_config(folder, name=name)  # first: the tokenizer's classes read it too, and would be blamed for it
    return profile_of(load_tokenizer(folder, name=name), getattr(config, "eos_token_id", None))


def model_config(folder: str | Path, *, name: str | None = None) -> Any:
    """A model folder's config.json, as transformers reads it; errors call the model by `name`, or by its folder.

    Raises:
        ModelError: it can't be read, or describes a model larger than any there is.
    """
    from transformers import AutoConfig

    _check_config_file(Path(folder) / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, **NO_CODE)
    except LIBRARY_ERRORS as error:
        raise unreadable(error, name or str(folder)) from error


def _check_config_file(path: Path) -> None:
    """Check a config.json before anything is built from it. A file that can't be read is left to the loader."""
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ModelError(
                "a model's configuration is too large to be one",
                where=str(path),
                found=f"{size:,} bytes",
                expected=f"at most {LARGEST_FILE:,}",
                fix="copy or download the model again",
            )
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    check_config_sizes(config, str(path))


def check_config_sizes(config: Any, where: str) -> None:
    """Refuse a configuration with a size, at any depth, beyond any model there is."""
    for key, value in _numbers(config):
        for pattern, most, what in _LIMITS:
            if pattern.search(key) and value > most:
                raise ModelError(
                    "a model's configuration describes a model larger than any there is",
                    where=where,
                    found=f"{key}: {format(value, ',') if value < 10**30 else f'a number of {len(str(value))} digits'}",
                    expected=f"at most {most:,} {what}",
                    fix="correct the number, or copy the model's config.json again",
                )


def _numbers(value: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Whole numbers by their key, and the lengths of lists that have an element a layer."""
    if not isinstance(value, Mapping) or depth > 20:
        return
    for key, inner in value.items():
        if isinstance(inner, int) and not isinstance(inner, bool):
            yield str(key), inner
        elif isinstance(inner, list):
            if _PER_LAYER.search(str(key)):
                yield "num_hidden_layers", len(inner)
            for element in inner[:1000]:
                yield from _numbers(element, depth + 1)
        else:
            yield from _numbers(inner, depth + 1)
