"""A model's weights as transformers reads them from their files, with the warnings and refusals that go with that."""

from __future__ import annotations

from typing import Any

import torch

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE
from triptych.models.quantize import (
    is_quantized_linear,
    keep_differentiable,
    linear_layers,
    loading_warnings,
    quantization_config,
    stored_quantization,
)
from triptych.models.source import ModelFiles, unreadable


def read_weights(
    files: ModelFiles, config: Any, spec: ModelConfig, *, dtype: torch.dtype, device: torch.device, packed: bool
) -> tuple[Any, list[str]]:
    """The model on its device, without gradients, and warnings about it; `packed`: quantized by bitsandbytes' layers.

    Raises:
        ModelError: the files can't be read, lack weights, or can't be packed.
    """
    stored = stored_quantization(config)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": None if spec.allow_pickle else True}
    if packed:
        options["device_map"] = {"": device}
        if stored is None:
            options["quantization_config"] = quantization_config(
                spec.quantize, dtype=dtype, double_quant=spec.double_quant
            )
    model, unused = _from_pretrained(files, config, spec, options)
    warnings = loading_warnings(model, unused, spec.quantize, stored)
    if not packed:
        return model.to(device), warnings
    keep_differentiable(model)
    if stored is None:
        _require_quantized(model, spec)
    return model, warnings


def _from_pretrained(
    files: ModelFiles, config: Any, spec: ModelConfig, options: dict[str, Any]
) -> tuple[Any, list[str]]:
    """The model, and the keys of its files that it has no place for."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            files.folder, config=config, output_loading_info=True, **options, **NO_CODE
        )
    except LIBRARY_ERRORS as error:
        raise unreadable(error, spec.name) from error
    if missing := sorted(report["missing_keys"]):  # transformers fills them with random numbers
        raise ModelError(
            "the model's files lack some of its weights",
            where=spec.name,
            found=f"{len(missing)} missing, {missing[0]} the first",
            fix="download or save the model again; all *.safetensors files are needed",
        )
    return model.requires_grad_(False), sorted(report["unexpected_keys"])


def _require_quantized(model: Any, spec: ModelConfig) -> None:
    """Refuse a model that would be called quantized and isn't: transformers passes over linear layers' subclasses."""
    linear = [module for _, module in linear_layers(model)]
    if linear and not any(is_quantized_linear(module) for module in linear):
        raise ModelError(
            "transformers quantizes no layer of this architecture in packed form",
            where=spec.name,
            found=f"{len(linear)} linear layers, {type(linear[0]).__name__} the first",
            fix="set model.hold to dequantized, or quantize to none",
        )
