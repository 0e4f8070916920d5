"""Saving an adapter in PEFT's format, and loading one that is what it was when it was saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from triptych.errors import ModelError
from triptych.models.adapter_checks import (
    check_adapter_config,
    check_adapter_files,
    check_patterns,
    write_adapter_record,
)
from triptych.models.adapter_tensors import attach_saved, place_tensors, read_tensors
from triptych.models.adapters import Adapter, LoraSettings, prepare_layers
from triptych.models.library_errors import reason_of
from triptych.models.load import LoadedModel
from triptych.records.manifest import claim, remove, written
from triptych.records.run_files import ADAPTER_FILES, ADAPTER_RECORD


def save_adapter(adapter: Adapter, folder: Path, *, facts: dict[str, Any]) -> None:
    """Write the adapter in PEFT's format, with Triptych's facts (base hash, prompt hash) in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    claim(*(folder / name for name in ADAPTER_FILES))
    remove(folder / ADAPTER_RECORD)  # its presence means that the files beside it are whole
    for config in adapter.model.peft_config.values():  # peft writes sets in an order that differs between processes
        vars(config).update({key: sorted(value) for key, value in vars(config).items() if isinstance(value, set)})
    adapter.model.save_pretrained(folder, safe_serialization=True)
    written(*(folder / name for name in ADAPTER_FILES))
    write_adapter_record(folder, {"adapter_sha256": adapter.sha256(), **facts})


def load_adapter(loaded: LoadedModel, folder: Path) -> tuple[Adapter, dict[str, Any]]:
    """Put a saved adapter on a loaded model, enabled. Returns it and the facts it was saved with.

    Raises:
        ModelError: not an adapter folder, changed after it was saved, or made for other base weights.
    """
    from peft import LoraConfig, PeftModel

    facts = check_adapter_files(folder)
    config_of_file = check_adapter_config(folder)
    made_for = facts.get("base_weights_sha256")
    if made_for is not None and made_for != loaded.weights_sha256:
        raise ModelError(
            "this adapter was trained on another base model",
            where=str(folder),
            found=f"base weights {loaded.weights_sha256[:12]}…",
            expected=f"base weights {made_for[:12]}… ({facts.get('base_model', 'name unknown')})",
            fix="give the model it was trained on with --model",
        )
    check_patterns(config_of_file, [name for name, _ in loaded.model.named_modules()], folder)
    tensors, brought = read_tensors(folder, loaded.model, saved=config_of_file.get("modules_to_save") or [])
    try:
        config = LoraConfig.from_pretrained(folder)
        config.modules_to_save = None  # `attach_saved` handles them, for the head and the embedding too
        with _base_unchanged(loaded.model, brought):
            wrapped = PeftModel.from_pretrained(loaded.model, folder, config=config, is_trainable=True)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("the adapter doesn't fit this model", where=str(folder), found=reason_of(error)) from error
    try:
        place_tensors(wrapped, tensors, folder)
    except ModelError:
        wrapped.unload()
        raise
    prepare_layers(wrapped, loaded.model)
    attach_saved(wrapped, loaded.model, brought)
    named = config.target_modules  # names, or one regular expression
    targets = (named,) if isinstance(named, str) else tuple(sorted({*(named or ()), *(config.target_parameters or ())}))
    settings = LoraSettings(
        config.r, config.lora_alpha, config.lora_dropout, targets, config.use_rslora, config.use_dora
    )
    adapter = Adapter(wrapped, settings, targets)
    _check_weights(adapter, facts, folder)
    return adapter, facts


@contextmanager
def _base_unchanged(model: Any, names: Iterable[str]) -> Iterator[None]:
    """Put these parameters of the base back to what they were: peft loads an adapter's file into them."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    before = {name: parameters[name].detach().clone() for name in names}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                parameters[name].copy_(tensor)


def _check_weights(adapter: Adapter, facts: dict[str, Any], folder: Path) -> None:
    """Records of older versions hold no hashes of files: their adapters are checked by the weights as loaded."""
    saved = facts.get("adapter_sha256")
    if "files" in facts or saved is None or adapter.sha256() == saved:
        return
    raise ModelError(
        "the adapter was changed after it was saved",
        where=str(folder),
        found=f"weights with SHA-256 {adapter.sha256()[:12]}…",
        expected=f"SHA-256 {saved[:12]}…, as {ADAPTER_RECORD} in it says",
        fix=f"copy the adapter again; for an adapter that was changed on purpose, delete its {ADAPTER_RECORD}",
    )
