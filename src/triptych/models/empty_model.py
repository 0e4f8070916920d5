"""A model built from its configuration alone, to be filled with tensors that are there already.

transformers builds it on torch's `meta` device: modules, shapes and dtypes, no memory and no random numbers. Every
parameter and every buffer is then put in by name, those that no file of transformers holds (rotary frequencies)
included, and tied ones as one tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triptych.models.library_errors import NO_CODE


def empty_model(config: Any, dtype: torch.dtype, folder: Path) -> Any:
    """The causal language model of a configuration, without values; `folder` has its configuration of generation."""
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype, **NO_CODE)
    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.requires_grad_(False).eval()


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, each once, by its first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first name of the same one; those with one name are left out."""
    first = {id(tensor): name for name, tensor in tensors_of(model).items()}
    names = {name: first[id(tensor)] for name, tensor in _all(model)}
    return {name: one for name, one in names.items() if name != one}


def _all(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def fill(model: nn.Module, tensors: Mapping[str, Tensor], same: Mapping[str, str]) -> None:
    """Put tensors into an empty model; `same` gives the names that share another's tensor.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape than the model's.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    made: dict[str, Tensor] = {}
    for name, empty in _all(model):
        one = same.get(name, name)
        if one not in made:
            tensor = tensors.get(one)
            if tensor is None or tensor.shape != empty.shape:
                raise ValueError(f"{name} is {'missing' if tensor is None else 'of another shape'}")
            made[one] = nn.Parameter(tensor, requires_grad=False) if name in parameters else tensor
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        held: dict[str, Any] = owner._parameters if name in parameters else owner._buffers
        held[leaf] = made[one]
    if left := sorted(set(tensors) - set(made)):
        raise ValueError(f"{left[0]} has no place in the model")


def unlike(model: Any, build: Callable[[], Any]) -> str | None:
    """In what a model differs from the empty one that `build` builds, beyond values; None in nothing."""
    try:
        empty = build()
    except Exception as error:  # an architecture's own code may raise anything on a device without memory
        return f"it can't be built without its weights: {type(error).__name__}: {error}"
    ours, theirs = _facts(empty), _facts(model)
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if different:
        return f"built from its configuration, it has another {different[0]}"
    for name, module in empty.named_modules():
        values = [one for key, one in vars(module).items() if key not in ("_parameters", "_buffers", "_modules")]
        if any(tensor.is_meta for value in values for tensor in _tensors_in(value)):
            return f"{name or 'the model'} has tensors that are neither parameters nor buffers"
    return None


def _facts(model: Any) -> dict[str, Any]:
    """All of a model but its values and their dtypes, which are put in as they were."""
    generation = getattr(model, "generation_config", None)
    modules = {
        f"module {name}": (type(one), one.training, frozenset(one._non_persistent_buffers_set))
        for name, one in model.named_modules()
    }
    return {
        **modules,
        **{f"tensor {name}": (tensor.shape, tensor.requires_grad) for name, tensor in _all(model)},
        "configuration": model.config.to_dict(),
        "attention": getattr(model.config, "_attn_implementation", None),
        "configuration of generation": generation.to_dict() if generation is not None else None,
    }


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [one for one in inner if isinstance(one, Tensor)]
