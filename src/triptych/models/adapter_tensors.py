"""The tensors of an adapter's file, and their places in the model.

Every tensor of the file must be in the model, and every adapted layer must have got its tensors from the file.

An adapter may bring whole weights (peft's `modules_to_save`). They are in use while it is enabled, else the base's are.
Each is a parameter of a module of the base model. It is the module's parameter that is swapped, so that all code that
reads the weights of the embedding or the output head gets the right ones; a head tied to the embedding is untied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych.errors import ModelError
from triptych.models.adapter_checks import refused
from triptych.models.library_errors import reason_of
from triptych.models.lora import lora_layers, wraps_plain_linear
from triptych.records.run_files import ADAPTER_WEIGHTS

_SAVED = "_triptych_saved_modules"


def sha256_of_tensors(tensors: Mapping[str, Tensor], start: str = "") -> str:
    """Hash of names and values, in float32, in the mapping's order, after a text that they depend on."""
    digest = hashlib.sha256(start.encode())
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Saved:
    """One parameter in its two versions."""

    name: str
    module: nn.Module
    base: nn.Parameter
    own: nn.Parameter


def _is_named(parameter: str, modules: list[str]) -> bool:
    """Whether a parameter is in one of the modules; as in peft, a name is what a module's path ends with."""
    parts = parameter.split(".")[:-1]
    paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return any(path.endswith(name) for path in paths for name in modules)


def read_tensors(folder: Path, base: Any, *, saved: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The adapter's own tensors by their names in the file, and the weights that it brings by their names in the base.

    Copies of base weights that peft put in beside them must be the base's: they are left out. `base` has no adapter;
    `saved` are modules that the adapter may bring whole (peft's `modules_to_save`).

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
    of_base = dict(base.named_parameters(remove_duplicate=False))
    brought = {}
    for name in tensors.keys() - own.keys():
        at = name.removeprefix("base_model.model.").replace(".base_layer", "")
        weight, tensor = of_base.get(at), tensors[name]
        fits = weight is not None and weight.shape == tensor.shape
        if weight is not None and fits and weight.is_floating_point() and _is_named(at, saved):
            brought[at] = tensor
        elif weight is None or not fits or not torch.equal(weight.cpu(), tensor.to(weight.dtype)):
            has = "none" if weight is None else f"one of shape {list(weight.shape)}"
            raise refused(
                folder,
                f"{name} of shape {list(tensor.shape)}, where the base model has {has}",
                "this adapter brings weights that replace the base model's",
            )
    if twice := [name for name in saved if any(f".{name}.lora_" in tensor for tensor in own)]:
        raise refused(folder, f"{twice[0]} among both", "this adapter adapts a module that it also replaces")
    if empty := [name for name in saved if not any(_is_named(at, [name]) for at in brought)]:
        raise refused(folder, f"no weights of {', '.join(empty)}", "the adapter's file lacks modules that it names")
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
            raise refused(folder, kind, "this adapter adapts a module that is no linear layer")


def attach_saved(model: Any, base: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put an adapter's own versions of the base's parameters in place, enabled; `model` is peft's wrapper."""
    parameters = []
    for name, tensor in sorted(tensors.items()):
        module = base.get_submodule(name.rpartition(".")[0])
        of_base = base.get_parameter(name)
        own = nn.Parameter(tensor.to(of_base.device, of_base.dtype), requires_grad=False)
        parameters.append(_Saved(name, module, of_base, own))
    for one in (model, base):
        vars(one)[_SAVED] = parameters
    enable_saved(base, on=True)


def enable_saved(model: Any, *, on: bool) -> None:
    """Compute with the adapter's versions, or with the base's."""
    for saved in vars(model).get(_SAVED, ()):
        setattr(saved.module, saved.name.rpartition(".")[2], saved.own if on else saved.base)


def saved_tensors(model: Any) -> dict[str, Tensor]:
    """The adapter's versions by name."""
    return {saved.name: saved.own for saved in vars(model).get(_SAVED, ())}


def forget_saved(model: Any) -> None:
    """Compute with the base's weights from now on."""
    enable_saved(model, on=False)
    vars(model).pop(_SAVED, None)
