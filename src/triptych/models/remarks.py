"""Warnings about a model as it was loaded, and about training on it: nothing is left out silently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.config.choices import Quantize
from triptych.models.quantize import routed_experts


def on_loading(model: Any, unused: Sequence[str], quantize: Quantize, stored: str | None) -> list[str]:
    """Warnings about a loaded model.

    Args:
        model: as transformers loaded it.
        unused: keys of its files that the model has no place for.
        quantize: what was asked for.
        stored: how the folder's own weights are quantized, if they are.
    """
    warnings = []
    if unused:
        warnings.append(
            f"{len(unused)} tensors of the model's files are not used by {type(model).__name__}: {_first(unused)}"
        )
    if stored is not None:
        warnings.append(
            f"the model's files are quantized already ({stored}): they are used so, not as `quantize: {quantize}`"
        )
    elif quantize != "none" and (experts := routed_experts(model)):
        share = sum(dict(model.named_parameters())[name].numel() for name in experts)
        total = sum(parameter.numel() for parameter in model.parameters())
        warnings.append(
            f"routed experts are not quantized, {share / total:.0%} of the weights stay as they are: {_first(experts)}"
        )
    return warnings


def on_training(model: Any) -> list[str]:
    """Warnings about training an adapter on a model."""
    warnings = []
    if experts := routed_experts(model):
        warnings.append(f"routed experts are not adapted: {_first(experts)}")
    config = model.config.get_text_config()
    rates = {
        name: rate
        for name, rate in sorted(config.to_dict().items())
        if ("dropout" in name or "pdrop" in name) and isinstance(rate, int | float) and rate > 0
    }
    if rates:
        listed = ", ".join(f"{name} {rate}" for name, rate in rates.items())
        warnings.append(
            f"the base model's own dropout is not used in training ({listed}); `tune.dropout` is the adapter's"
        )
    return warnings


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
