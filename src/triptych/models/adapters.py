"""LoRA adapters (Hu et al. 2021) through peft: attached, enabled and disabled, detached.

    y = W x + s B A x        W frozen; A: (r, in), B: (out, r), both float32; B starts at zero
                             s = alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023)

How that is computed is in `lora`; saving and loading are in `adapter_store`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from triptych.config.tune import TuneConfig
from triptych.errors import ModelError
from triptych.models.adapter_tensors import enable_saved, forget_saved, saved_tensors, sha256_of_tensors
from triptych.models.load import LoadedModel
from triptych.models.lora import compute_in_input_dtype, forget_layers, lora_layers, remember_layers
from triptych.models.quantize import first_names, linear_layers, routed_experts
from triptych.models.targets import targets_of

logger = logging.getLogger(__name__)

_DEFAULTS = TuneConfig()
_BROUGHT = (".lora_", "trainable_tokens_", ".token_adapter.", ".modules_to_save.")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Size and place of an adapter: of one that is made (`config.tune` says what each means), or one that was read."""

    r: int = _DEFAULTS.r
    alpha: float = _DEFAULTS.alpha
    dropout: float = _DEFAULTS.dropout
    target_modules: tuple[str, ...] | None = None
    """Names of linear layers (last part of the path, e.g. `q_proj`); None: all of them except the output head."""
    use_rslora: bool = _DEFAULTS.use_rslora
    use_dora: bool = _DEFAULTS.use_dora

    @classmethod
    def of(cls, tune: TuneConfig) -> LoraSettings:
        """What an experiment sets."""
        targets = None if tune.target_modules == "all-linear" else tuple(tune.target_modules)
        return cls(tune.r, tune.alpha, tune.dropout, targets, tune.use_rslora, tune.use_dora)


@dataclass
class Adapter:
    """An adapter in place. `model` is peft's wrapper; the base model inside it is the one that was loaded."""

    model: Any
    settings: LoraSettings
    target_modules: tuple[str, ...]
    _parameters: dict[str, nn.Parameter] = field(default_factory=dict, repr=False)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name: A, B and DoRA's magnitude of every adapted layer, in a fixed order."""
        if not self._parameters:
            self._parameters = {name: p for name, p in sorted(self.model.named_parameters()) if p.requires_grad}
        return self._parameters

    def sha256(self) -> str:
        """Hash of the weights: equal for two scores that were made with the same adapter."""
        return sha256_of_tensors(self.parameters())


def attach_adapter(loaded: LoadedModel, settings: LoraSettings, *, seed: int) -> Adapter:
    """Put a fresh adapter on a loaded model, enabled.

    The seed is set before A is drawn, so the same seed gives the same adapter; torch's generator is put back after.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    targets = targets_of(loaded.model, settings.target_modules)
    if targets.parameters and (settings.dropout or settings.use_dora):
        raise ModelError(
            "peft can't adapt this model's feed-forward layers with dropout or DoRA",
            where="tune.dropout" if settings.dropout else "tune.use_dora",
            found=f"{len(targets.parameters)} layers that it names by their weight, {targets.parameters[0]} the first",
            fix="set dropout to 0 and use_dora to false, or name the attention's layers in tune.target_modules",
        )
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets.modules),
        target_parameters=list(targets.parameters) or None,
        bias="none",
        task_type="CAUSAL_LM",
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        fan_in_fan_out=any(isinstance(layer, Conv1D) for _, layer in linear_layers(loaded.model)),
    )
    for warning in _training_warnings(loaded.model):
        logger.warning("%s", warning)
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        torch.manual_seed(seed)
        wrapped = get_peft_model(loaded.model, config)
    prepare_layers(wrapped, loaded.model)
    return Adapter(wrapped, settings, targets.names)


def _training_warnings(model: Any) -> list[str]:
    """Warnings about training an adapter on a model."""
    warnings = []
    if experts := routed_experts(model):
        warnings.append(f"routed experts are not adapted: {first_names(experts)}")
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


def check_targets(loaded: LoadedModel, settings: LoraSettings) -> None:
    """Refuse target modules that the model lacks, before anything is computed."""
    targets_of(loaded.model, settings.target_modules)


def detach_adapter(loaded: LoadedModel, adapter: Adapter) -> None:
    """Remove an adapter: the base model is what it was before, and another adapter can be attached."""
    adapter.model.unload()
    forget_layers(loaded.model)
    forget_saved(loaded.model)
    if lora_layers(loaded.model):
        raise ModelError("the adapter could not be detached", found="LoRA layers that stayed in the model")


def adapter_is_on(model: Any) -> bool:
    """Whether any LoRA layer would add to the output now."""
    return any(not layer.disable_adapters for layer in lora_layers(model))


def active_adapter_sha256(model: Any) -> str | None:
    """Hash of all that the adapters add to the output now: scale, and every tensor they bring; None if they are off."""
    if not adapter_is_on(model):
        return None
    start = ""
    for layer in lora_layers(model):
        variants = {name: type(variant).__name__ for name, variant in getattr(layer, "lora_variant", {}).items()}
        start += repr([sorted(layer.scaling.items()), sorted(variants.items())])
    # what is trained (biases are, under their own names), and what peft added
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    brought = {n: t for n, t in tensors.items() if t.requires_grad or any(part in n for part in _BROUGHT)}
    brought = {**saved_tensors(model), **brought}
    return sha256_of_tensors({f"{name} {tuple(brought[name].shape)}": brought[name] for name in sorted(brought)}, start)


@contextmanager
def adapter_enabled(adapter: Adapter | None, *, on: bool) -> Iterator[None]:
    """Enable or disable the adapter for the block. No adapter: nothing happens."""
    if adapter is None:
        yield
        return
    before = adapter_is_on(adapter.model)
    _enable(adapter.model, on=on)
    try:
        yield
    finally:
        _enable(adapter.model, on=before)


def set_dropout(adapter: Adapter, *, on: bool) -> None:
    """Enable or disable the adapter's dropout, if it has any; the base model stays in evaluation mode."""
    if not adapter.settings.dropout:
        return
    for layer in lora_layers(adapter.model):
        layer.training = on  # DoRA asks the layer, plain LoRA its dropout
        layer.lora_dropout.train(on)


def _enable(model: Any, *, on: bool) -> None:
    # peft's own method also sets requires_grad; this only decides what the forward adds
    for layer in lora_layers(model):
        layer._disable_adapters = not on
    enable_saved(model, on=on)


def prepare_layers(wrapped: Any, base: Any) -> None:
    """Make the fresh layers of peft's wrapper ready: what is trained is float32, products are in the input's dtype.

    peft itself makes A and B float32, but DoRA's magnitude takes the dtype it was computed in.
    """
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    compute_in_input_dtype(wrapped)
    wrapped.eval()
    remember_layers(wrapped, base)
