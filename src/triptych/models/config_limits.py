"""How large a model a config.json may describe: a typing error in it must not fill the memory before it is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych.errors import ModelError

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


def check_config_file(path: Path) -> None:
    """Look at a config.json before anything is built from it. A file that can't be read is left to the loader.

    Raises:
        ModelError: the file or what it describes is too large.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
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
    """Look at the sizes that a configuration gives, at any depth.

    Raises:
        ModelError: one is beyond any model there is.
    """
    for key, value in _numbers(config):
        for pattern, most, what in _LIMITS:
            if pattern.search(key) and value > most:
                raise ModelError(
                    "a model's configuration describes a model larger than any there is",
                    where=where,
                    found=f"{key}: {value:,}"
                    if value < 10**30
                    else f"{key}: a number of {len(str(value)[:5000])} digits",
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
