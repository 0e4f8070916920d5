"""LoRA adapters (Hu et al. 2021) through peft: made, switched on and off, saved and loaded in PEFT's format.

    y = W x + s B A x        W frozen; A: (r, in), B: (out, r), both float32; B starts at zero
                             s = alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023)

How that is computed is in `lora.py`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triptych.config.tune import TuneConfig
from triptych.errors import ModelError
from triptych.models.adapter_checks import check_adapter_config, place_tensors, read_tensors
from triptych.models.adapter_files import check_adapter_files, write_adapter_record
from triptych.models.adapter_patterns import check_patterns
from triptych.models.library_errors import reason_of
from triptych.models.load import LoadedModel
from triptych.models.lora import compute_in_input_dtype, forget_layers, lora_layers, remember_layers
from triptych.models.quantize import linear_layers
from triptych.models.remarks import on_training
from triptych.models.saved_modules import attach_saved, forget_saved, saved_tensors, switch_saved
from triptych.models.targets import targets_of
from triptych.records.manifest import claim, remove, written
from triptych.records.run_files import ADAPTER_FILES, ADAPTER_RECORD

__all__ = [
    "Adapter",
    "LoraSettings",
    "active_adapter_sha256",
    "adapter_is_on",
    "attach_adapter",
    "check_targets",
    "detach_adapter",
    "load_adapter",
    "save_adapter",
    "set_dropout",
    "switched",
]

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
        """Hash of the weights: what says that two scores were made with the same adapter."""
        digest = hashlib.sha256()
        for name, parameter in self.parameters().items():
            digest.update(name.encode())
            digest.update(parameter.detach().to("cpu", torch.float32).numpy().tobytes())
        return digest.hexdigest()


def attach_adapter(loaded: LoadedModel, settings: LoraSettings, *, seed: int) -> Adapter:
    """Put a fresh adapter on a loaded model, switched on.

    The seed is set before A is drawn, so the same seed gives the same adapter; torch's generator is put back after.

    Raises:
        ModelError: a target module names no linear layer.
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
    for remark in on_training(loaded.model):
        logger.warning("%s", remark)
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        torch.manual_seed(seed)
        wrapped = get_peft_model(loaded.model, config)
    _master_weights(wrapped)
    compute_in_input_dtype(wrapped)
    wrapped.eval()
    remember_layers(wrapped, loaded.model)
    return Adapter(wrapped, settings, targets.names)


def check_targets(loaded: LoadedModel, settings: LoraSettings) -> None:
    """Say that target modules are wrong before anything is computed.

    Raises:
        ModelError: a target module names no linear layer.
    """
    targets_of(loaded.model, settings.target_modules)


def save_adapter(adapter: Adapter, folder: Path, *, facts: dict[str, Any]) -> None:
    """Write the adapter in PEFT's format, with Triptych's facts (base hash, prompt hash) in a file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    claim(*(folder / name for name in ADAPTER_FILES))
    remove(folder / ADAPTER_RECORD)  # it says that the files beside it are whole
    adapter.model.save_pretrained(folder, safe_serialization=True)
    written(*(folder / name for name in ADAPTER_FILES))
    write_adapter_record(folder, {"adapter_sha256": adapter.sha256(), **facts})


def load_adapter(loaded: LoadedModel, folder: Path) -> tuple[Adapter, dict[str, Any]]:
    """Put a saved adapter on a loaded model, switched on. Returns it and the facts it was saved with.

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
        config.modules_to_save = None  # `saved_modules` switches them, where the head and the embedding are read too
        with _kept(loaded.model, brought):
            wrapped = PeftModel.from_pretrained(loaded.model, folder, config=config, is_trainable=True)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("the adapter doesn't fit this model", where=str(folder), found=reason_of(error)) from error
    try:
        place_tensors(wrapped, tensors, folder)
    except ModelError:
        wrapped.unload()
        raise
    _master_weights(wrapped)
    compute_in_input_dtype(wrapped)
    wrapped.eval()
    remember_layers(wrapped, loaded.model)
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
def _kept(model: Any, names: Iterable[str]) -> Iterator[None]:
    """Put these parameters of the base back to what they were: peft loads an adapter's file into them."""
    there = dict(model.named_parameters(remove_duplicate=False))
    before = {name: there[name].detach().clone() for name in names}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                there[name].copy_(tensor)


def detach_adapter(loaded: LoadedModel, adapter: Adapter) -> None:
    """Take an adapter off: the base model is what it was before, and another adapter can be put on."""
    adapter.model.unload()
    forget_layers(loaded.model)
    forget_saved(loaded.model)
    if lora_layers(loaded.model):
        raise ModelError("the adapter could not be taken off", found="LoRA layers that stayed in the model")


def adapter_is_on(model: Any) -> bool:
    """Whether any LoRA layer would add to the output now."""
    return any(not layer.disable_adapters for layer in lora_layers(model))


def active_adapter_sha256(model: Any) -> str | None:
    """Hash of all that the adapters add to the output now: scale, and every tensor they bring; None if they are off."""
    if not adapter_is_on(model):
        return None
    digest = hashlib.sha256()
    for layer in lora_layers(model):
        variants = {name: type(variant).__name__ for name, variant in getattr(layer, "lora_variant", {}).items()}
        digest.update(repr([sorted(layer.scaling.items()), sorted(variants.items())]).encode())
    for name, tensor in sorted(_brought_tensors(model).items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _brought_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Every tensor that adapters bring: what is trained (biases are, under their own names), and what peft added."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    added = {name for name in tensors if any(part in name for part in _BROUGHT)}
    return {**saved_tensors(model), **{name: tensors[name] for name in trained | added}}


def _check_weights(adapter: Adapter, facts: dict[str, Any], folder: Path) -> None:
    """Adapters that were saved before their files' hashes were kept are told by their weights as loaded."""
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


@contextmanager
def switched(adapter: Adapter | None, *, on: bool) -> Iterator[None]:
    """Score with the adapter on or off, and put it back after. No adapter: nothing to switch."""
    if adapter is None:
        yield
        return
    before = adapter_is_on(adapter.model)
    _switch(adapter.model, on=on)
    try:
        yield
    finally:
        _switch(adapter.model, on=before)


def set_dropout(adapter: Adapter, *, on: bool) -> None:
    """Switch the adapter's dropout alone, if it has any; the base model stays in evaluation mode."""
    if not adapter.settings.dropout:
        return
    for layer in lora_layers(adapter.model):
        layer.training = on  # DoRA asks the layer, plain LoRA its dropout
        layer.lora_dropout.train(on)


def _switch(model: Any, *, on: bool) -> None:
    # peft's own switch also sets requires_grad; ours only decides what the forward adds
    for layer in lora_layers(model):
        layer._disable_adapters = not on
    switch_saved(model, on=on)


def _master_weights(model: Any) -> None:
    """All that is trained in float32. peft sees to A and B; a magnitude takes the dtype it was computed in."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
