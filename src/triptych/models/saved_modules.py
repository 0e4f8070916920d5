"""Whole weights that an adapter brings (peft's `modules_to_save`), in use while it is enabled; else the base's are.

Each is a parameter of a module of the base model. It is the module's parameter that is swapped, so that all code that
reads the weights of the embedding or the output head gets the right ones; a head tied to the embedding is untied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_SAVED = "_triptych_saved_modules"


@dataclass(frozen=True, slots=True)
class _Saved:
    """One parameter in its two versions."""

    name: str
    module: nn.Module
    base: nn.Parameter
    own: nn.Parameter

    def put(self, *, on: bool) -> None:
        """Let the module compute with the adapter's version, or with the base's."""
        setattr(self.module, self.name.rpartition(".")[2], self.own if on else self.base)


def is_named(parameter: str, modules: list[str]) -> bool:
    """Whether a parameter is in one of the modules; as in peft, a name is what a module's path ends with."""
    parts = parameter.split(".")[:-1]
    paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return any(path.endswith(name) for path in paths for name in modules)


def attach_saved(model: Any, base: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put an adapter's own versions of parameters in place, enabled.

    Args:
        model: peft's wrapper.
        base: the model inside it.
        tensors: by the parameter's name in the base model; of the same shapes.
    """
    parameters = []
    for name, tensor in sorted(tensors.items()):
        module = base.get_submodule(name.rpartition(".")[0])
        of_base: nn.Parameter = getattr(module, name.rpartition(".")[2])
        own = nn.Parameter(tensor.to(of_base.device, of_base.dtype), requires_grad=False)
        parameters.append(_Saved(name, module, of_base, own))
    for one in (model, base):
        vars(one)[_SAVED] = parameters
    enable_saved(base, on=True)


def enable_saved(model: Any, *, on: bool) -> None:
    """Compute with the adapter's versions, or with the base's. An adapter that brings none: nothing to do."""
    for saved in vars(model).get(_SAVED, ()):
        saved.put(on=on)


def saved_tensors(model: Any) -> dict[str, Tensor]:
    """The adapter's versions by name."""
    return {saved.name: saved.own for saved in vars(model).get(_SAVED, ())}


def forget_saved(model: Any) -> None:
    """The base's weights from now on."""
    enable_saved(model, on=False)
    vars(model).pop(_SAVED, None)
