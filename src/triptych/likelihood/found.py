"""What the probe found about a model, remembered in the user's cache: trying it takes seconds.

A finding holds for the same weights, adapter and configuration, stored and computed the same way, by the same versions
on the same kind of processor, and for the code that was tried. Anything else is tried again. A
reason that says nothing about the model (memory ran out) isn't remembered, nor is a model that can't be used at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from triptych.errors import DiskError
from triptych.likelihood.cache import ENGINE, model_facts
from triptych.models import LoadedModel, active_adapter_sha256
from triptych.models.cache import cache_folder, warn_not_kept
from triptych.records.identity import sha256_of
from triptych.records.provenance import library_versions, processor
from triptych.records.run_files import json_or_none
from triptych.records.store import write_json
from triptych.version import __version__

_MOST = 500
"""Findings that are remembered, the newest."""


def key_of(loaded: LoadedModel, trial: str, run: Callable[..., Any]) -> str | None:
    """What a finding on this model by this trial is remembered under; None where the weights have no hash.

    Args:
        loaded: the model, with the adapter that is enabled now, if any.
        trial: the trial's name.
        run: what it runs, for the code's hash.
    """
    if not loaded.info.get("weights_sha256") or not isinstance(run, FunctionType):
        return None
    model = loaded.model
    facts = {
        **model_facts(loaded),
        "trial": [trial, f"{run.__module__}.{run.__qualname__}", run.__code__.co_firstlineno],
        "code": _code(Path(run.__code__.co_filename).parent),
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "attention": getattr(model.config, "_attn_implementation", None),
        "adapter": [active_adapter_sha256(model), library_versions().get("peft")],
        "engine": [ENGINE, __version__],
        "processor": [processor(), torch.backends.cpu.get_cpu_capability()],
    }
    return sha256_of(facts)


def remembered(key: str) -> tuple[str | None] | None:
    """The reason why not (None: it can be done) that was remembered; None where nothing was."""
    entry = _read().get(key)
    if not isinstance(entry, dict) or not isinstance(reason := entry.get("why_not", 0), str | None):
        return None
    return (reason,)


def remember(key: str, why_not: str | None) -> None:
    """Remember a finding. A cache that can't be written is one warning."""
    try:
        others = {name: entry for name, entry in _read().items() if name != key}
        newest = dict(list(others.items())[1 - _MOST :])
        write_json(_file(), {**newest, key: {"why_not": why_not}})
    except (DiskError, OSError) as error:
        warn_not_kept("what was found out about models", error)


def _file() -> Path:
    return cache_folder() / "probes.json"


def _read() -> dict[str, Any]:
    value = json_or_none(_file())
    return value if isinstance(value, dict) else {}


@cache
def _code(folder: Path) -> str:
    """Hash of the code that is tried: this package, that of the trial, and the models'."""
    here = Path(__file__).parent
    files = (path for package in {here, here.parent / "models", folder} for path in package.glob("*.py"))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
