"""What an adapter's folder must be so that the numbers are right with it attached and without it.

With the adapter off, the base must be the base: an adapter that changes the base's weights is refused by name. With it
on, every tensor of its file must be in the model, and every adapted layer must have got its tensors from the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.errors import ModelError
from triptych.models.config_limits import LARGEST_FILE
from triptych.models.library_errors import reason_of
from triptych.models.lora import lora_layers, wraps_plain_linear
from triptych.models.saved_modules import is_named
from triptych.records.run_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_INITS = (None, True, False, "true", "false", "gaussian", "orthogonal", "eva")
"""Ways to draw a fresh A that leave the base's weights alone."""
_CHANGES_BASE = {
    "trainable_token_indices": "changes the base model's embedding",
    "layer_replication": "repeats the base model's layers",
    "kasa_config": "changes the base model's weights",
}
_DEPENDS_ON_MORE = {
    "alora_invocation_tokens": "is on for part of a row only",
    "arrow_config": "chooses among several adapters",
    "monteclora_config": "draws its weights at random",
    "use_bdlora": "is laid out for several devices",
    "megatron_config": "makes peft import a module that the adapter names",
}


def check_adapter_config(folder: Path) -> dict[str, Any]:
    """Refuse, before anything is loaded, an adapter whose numbers would not be right. Returns its configuration.

    Raises:
        ModelError: its configuration can't be read, it is no LoRA adapter, or it changes the base model.
    """
    try:
        if (size := (folder / ADAPTER_CONFIG).stat().st_size) > LARGEST_FILE:
            raise ValueError(f"{size:,} bytes; at most {LARGEST_FILE:,} are read")
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind = config.get("peft_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            "the adapter's configuration can't be read",
            where=str(folder / ADAPTER_CONFIG),
            found=reason_of(error),
            expected="JSON as PEFT writes it",
        ) from error
    if kind != "LORA":
        raise _refused(folder, f"peft_type: {kind}", "this is no LoRA adapter, and only LoRA can be attached")
    init = config.get("init_lora_weights", True)
    if not isinstance(init, bool) and (init.lower() if isinstance(init, str) else init) not in _INITS:
        raise _refused(
            folder,
            f"init_lora_weights: {init}",
            "this adapter changes the base model's weights, which then are not the base's when it is off",
            fix="convert it to plain LoRA (peft: save_pretrained(..., path_initial_model_for_weight_conversion=...))",
        )
    if (bias := config.get("bias", "none")) != "none":
        raise _refused(folder, f"bias: {bias}", "this adapter replaces the base model's biases")
    if config.get("modules_to_save") and config.get("ensure_weight_tying"):
        raise _refused(folder, "ensure_weight_tying: true", "this adapter ties the weights that it brings to others")
    for key, what in {**_CHANGES_BASE, **_DEPENDS_ON_MORE}.items():
        if config.get(key):
            raise _refused(folder, f"{key}: {str(config[key])[:80]}", f"this adapter {what}, which can't be switched")
    return config


def read_tensors(folder: Path, base: Any, *, saved: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The adapter's own tensors by their names in the file, and the weights that it brings by their names in the base.

    Copies of base weights that peft put in beside them must be the base's: they are left out.

    Args:
        folder: the adapter's.
        base: the model it will be attached to, without any adapter.
        saved: modules that the adapter may bring whole (peft's `modules_to_save`).

    Raises:
        ModelError: the file can't be read, or brings base weights that are no such module's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            "the adapter's weights can't be read",
            where=str(folder / ADAPTER_WEIGHTS),
            found=reason_of(error),
            fix="copy or save the adapter again",
        ) from error
    own = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    there = dict(base.named_parameters(remove_duplicate=False))
    brought = {}
    for name in tensors.keys() - own.keys():
        at = name.removeprefix("base_model.model.").replace(".base_layer", "")
        weight, tensor = there.get(at), tensors[name]
        fits = weight is not None and weight.shape == tensor.shape
        if weight is not None and fits and weight.is_floating_point() and is_named(at, saved):
            brought[at] = tensor
        elif weight is None or not fits or not torch.equal(weight.cpu(), tensor.to(weight.dtype)):
            has = "none" if weight is None else f"one of shape {list(weight.shape)}"
            raise _refused(
                folder,
                f"{name} of shape {list(tensor.shape)}, where the base model has {has}",
                "this adapter brings weights that replace the base model's",
            )
    if twice := [name for name in saved if any(f".{name}.lora_" in tensor for tensor in own)]:
        raise _refused(folder, f"{twice[0]} among both", "this adapter adapts a module that it also replaces")
    if empty := [name for name in saved if not any(is_named(at, [name]) for at in brought)]:
        raise _refused(folder, f"no weights of {', '.join(empty)}", "the adapter's file lacks modules that it names")
    return own, brought


def place_tensors(wrapped: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Copy the tensors of the adapter's file into the model: each must have a place there, and each place its tensor.

    peft renames keys for some mixture-of-experts models on the way, and leaves out what it finds no place for.

    Raises:
        ModelError: a tensor has no place, a place has no tensor, or a layer that is not linear is adapted.
    """
    from peft import get_peft_model_state_dict

    places = {n: t for n, t in get_peft_model_state_dict(wrapped, save_embedding_layers=False).items() if ".lora_" in n}
    homeless, empty = sorted(tensors.keys() - places.keys()), sorted(places.keys() - tensors.keys())
    unlike = sorted(n for n in tensors.keys() & places.keys() if tensors[n].shape != places[n].shape)
    if homeless or empty or unlike:
        parts = [
            f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
            for what, names in (
                ("of the file's tensors have no place in the model", homeless),
                ("of the model's adapted layers get no tensor", empty),
                ("have another shape", unlike),
            )
            if names
        ]
        raise ModelError(
            "the adapter doesn't fit this model",
            where=str(folder),
            found="; ".join(parts),
            expected="a place for every tensor, and a tensor for every place",
            fix="give the model it was trained on with --model",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            places[name].data.copy_(tensor)
    for layer in lora_layers(wrapped):
        if not wraps_plain_linear(layer) and type(layer).__name__ not in ("ParamWrapper", "Embedding"):
            kind = type(layer.base_layer).__name__
            raise _refused(folder, kind, "this adapter adapts a module that is no linear layer")


def _refused(folder: Path, found: str, why: str, fix: str | None = None) -> ModelError:
    return ModelError(
        why, where=str(folder), found=found, expected="a LoRA adapter that only adds B A x to linear layers", fix=fix
    )
