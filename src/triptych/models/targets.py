"""Which layers an adapter adapts, named to peft in a way that lets it read back what it wrote.

peft takes names as ends of a module's path. Where a name also ends the path of something that is no linear layer, the
full paths are given. For mixture-of-experts models it takes `gate_proj`, `up_proj`, `down_proj` and the like for the
routed experts' (one tensor each in transformers 5), also where dense and shared feed-forward layers have these names:
those are given as parameters, `….gate_proj.weight`, which peft adapts to the same W + s B A.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from triptych.errors import ModelError
from triptych.models.quantize import linear_layers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Targets:
    """Layers to adapt."""

    names: tuple[str, ...]
    """The last part of each layer's path, e.g. `q_proj`: what a configuration and the records say."""
    modules: tuple[str, ...]
    """What peft is given as `target_modules`."""
    parameters: tuple[str, ...]
    """What peft is given as `target_parameters`."""


def targets_of(model: Any, asked: tuple[str, ...] | None) -> Targets:
    """The layers to adapt: all linear ones but the output head, or those with these names.

    Raises:
        ModelError: the model has no linear layer that can be adapted, or a name is not one of its layers'.
    """
    linear = [path for path, _ in linear_layers(model)]
    if lost := _lost_on_reading(model, linear):
        logger.warning(
            "%d layers are not adapted (%s, ...): peft would not read their weights back", len(lost), lost[0]
        )
    readable = [path for path in linear if path not in lost]
    barred = {name for name in map(_leaf, readable) if _barred_by_peft(model, name)}
    names = sorted({_leaf(path) for path in readable} - barred)
    if not names:
        raise ModelError(
            "this model has no linear layer that can be adapted",
            where=type(model).__name__,
            found="weights quantized by another library" if hasattr(model, "hf_quantizer") else "no linear layers",
            expected="linear layers of torch or bitsandbytes",
            fix="give the model in 16 bits, and let Triptych quantize it",
        )
    for name in asked or ():
        if name not in names:
            raise ModelError(
                "a target module can't be adapted by peft in this architecture"
                if name in barred
                else "a target module names no linear layer of this model",
                where="tune.target_modules",
                found=name,
                expected=", ".join(names),
                fix="use names of this list, or leave target_modules out to adapt all of them",
            )
    chosen = tuple(sorted(set(asked))) if asked is not None else tuple(names)
    paths = [path for path in readable if _leaf(path) in chosen]
    as_modules = _adapted_as_modules(model, readable)
    modules = [path for path in paths if path in as_modules]
    parameters = tuple(f"{path}.weight" for path in paths if path not in as_modules)
    return Targets(chosen, _shortest(model, modules), parameters)


def _leaf(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _shortest(model: Any, paths: list[str]) -> tuple[str, ...]:
    """Last parts of the paths where they name these modules and no others, else the paths."""
    leaves = sorted({_leaf(path) for path in paths})
    named = {path for path, _ in model.named_modules() if _leaf(path) in leaves}
    return tuple(leaves) if named == set(paths) else tuple(sorted(paths))


def _adapted_as_modules(model: Any, paths: list[str]) -> set[str]:
    """Those of these layers that peft adapts when it is given their names, and doesn't take for routed experts."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers as convert
    from peft.utils.transformers_weight_conversion import get_model_conversion_mapping

    conversions = get_model_conversion_mapping(model)

    def is_module(name: str) -> bool:
        config = LoraConfig(target_modules=[name])
        try:
            convert(config, model=model, conversions=conversions)
        except ValueError:  # peft wants all parts of what it takes for a fused expert
            return False
        return name in config.target_modules

    modules = {name for name in {_leaf(path) for path in paths} if is_module(name)}
    return {path for path in paths if _leaf(path) in modules}


def _lost_on_reading(model: Any, paths: list[str]) -> list[str]:
    """Those of these layers whose weights peft, reading an adapter's file, renames to something that isn't there."""
    import torch
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers as convert

    names = {path: f"base_model.model.{path}.lora_A.weight" for path in paths}
    read = convert(model, LoraConfig(), {name: torch.empty(0, 0) for name in names.values()})
    return [path for path, name in names.items() if name not in read]


def _barred_by_peft(model: Any, name: str) -> bool:
    """Whether peft refuses this layer in this architecture (kernels of Mamba read its weight around the adapter)."""
    from peft import LoraConfig

    try:
        from peft.tuners.tuners_utils import _check_lora_target_modules_mamba as check
    except ImportError:
        return False
    try:
        check(LoraConfig(target_modules=[name]), model, name)
    except ValueError:
        return True
    return False
