"""Identifying a model by the hashes of its files, and loading it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.device import DTYPES, choose_device, choose_dtype, choose_threads, free_memory
from triptych.models.header import load_profile, model_config, profile_in
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE
from triptych.models.norms import fuse_norms
from triptych.models.quantize import (
    dequantized_once,
    is_quantized_linear,
    keep_differentiable,
    linear_layers,
    loading_warnings,
    quantization_config,
    stored_quantization,
)
from triptych.models.rope import rope_limit
from triptych.models.shape import context_of
from triptych.models.source import ModelFiles, header_folder, is_hub_id, model_files, model_folder, unreadable
from triptych.models.tokenizer import TokenizerProfile
from triptych.models.weight_formats import PICKLED, refuse_pickles

logger = logging.getLogger(__name__)


@dataclass
class LoadedModel:
    """A causal language model ready to score or train, with the facts that decide its numbers."""

    model: Any
    profile: TokenizerProfile
    dtype: torch.dtype
    device: torch.device
    max_tokens: int | None
    """Positions the model was made for; None if it doesn't say."""
    weights_sha256: str
    rope_limit: int | None = None
    """Longer rows get other rotary frequencies as a whole (`rope`), so they are computed alone; None: no row does."""
    info: dict[str, Any] = field(default_factory=dict)

    def check_identity(self, expected: Mapping[str, Any]) -> None:
        """Check that what was loaded has the hashes that `identify` gave before; missing ones are not compared.

        Raises:
            ModelError: the model's files were changed in between.
        """
        for key in ("weights_sha256", "config_sha256", "tokenizer_sha256", "chat_template_sha256"):
            if key in expected and expected[key] != self.info.get(key):
                raise ModelError(
                    "the model's files were changed after this command had identified the model by them",
                    where=str(self.info.get("name")),
                    found=f"{key} {str(self.info.get(key))[:12]}…",
                    expected=f"{key} {str(expected[key])[:12]}…",
                    fix="run the same command again when nothing writes to the model's files",
                )


def identify(spec: ModelConfig) -> dict[str, str]:
    """Hashes of all of a model that can decide a number or a text. Downloads, or dequantizes, and reads its weights.

    `weights_sha256`, `config_sha256` and `tokenizer_sha256`; `chat_template_sha256` and `generation_config_sha256`
    where the model has them.

    Raises:
        ModelError: the model can't be used, or its weights are pickled, and that is not allowed.
    """
    profile = load_profile(spec).record()  # first: what is wrong with it shows before weights are downloaded
    files = model_files(model_folder(spec), spec)
    _refuse_pickle(files, spec)
    hashes = {
        "weights_sha256": files.weights_sha256,
        "config_sha256": files.config_sha256,
        "tokenizer_sha256": profile["tokenizer_sha256"],
        "chat_template_sha256": profile.get("chat_template_sha256"),
        "generation_config_sha256": files.generation_config_sha256,
    }
    return {name: sha256 for name, sha256 in hashes.items() if sha256 is not None}


def load_model(spec: ModelConfig) -> LoadedModel:
    """Load weights and tokenizer, quantize, and put the model into evaluation mode.

    Raises:
        ModelError: anything missing or unreadable, with what was looked for and where.
    """
    header = header_folder(spec)
    header_before = model_files(header, spec).state()
    profile = profile_in(header, name=spec.name)  # first, as in `identify`
    device = choose_device(spec.device)
    dtype_name, dtype_why = choose_dtype(spec.dtype, device)
    dtype = DTYPES[dtype_name]
    files = model_files(model_folder(spec), spec)
    before = {**files.state(), **(header_before if files.folder == header else {})}
    config = model_config(files.folder, name=spec.name)
    threads, threads_why = choose_threads(spec.threads, dtype) if device.type == "cpu" else (0, "on a GPU")
    stored = stored_quantization(config)
    as_loaded = files.bytes_of_weights() * dtype.itemsize / 2  # the files may have 2 or 4 bytes a parameter
    storage = choose_weight_storage(spec, as_loaded, device.type, free_memory(device)) if stored is None else "packed"
    _refuse_pickle(files, spec)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": None if spec.allow_pickle else True}
    if storage == "packed":
        options["device_map"] = {"": device}
        if stored is None:
            options["quantization_config"] = quantization_config(
                spec.quantize, dtype=dtype, double_quant=spec.double_quant
            )
    model, unused = _read_weights(files, config, spec, options)
    warnings = loading_warnings(model, unused, spec.quantize, stored)
    for warning in warnings:
        logger.warning("%s", warning)
    if storage == "packed":
        keep_differentiable(model)
        if stored is None:
            _require_quantized(model, spec)
    else:
        model = model.to(device)
    if storage == "dequantized":
        # after the move: 7 billion weights take seconds on a GPU and minutes on a CPU
        dequantized_once(model, double_quant=spec.double_quant)
    model.eval()
    if device.type == "cuda":
        fuse_norms(model)
    weights_sha256 = files.weights_sha256
    after = files.state()
    if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        raise ModelError(
            "the model's files changed while they were read",
            where=spec.name,
            found=", ".join(changed[:4]),
            fix="run the same command again when nothing writes to the model's files",
        )
    info = {
        "name": spec.name,
        "revision": spec.revision,
        "architecture": type(model).__name__,
        "weights_sha256": weights_sha256,
        "config_sha256": files.config_sha256,
        **profile.record(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "quantize": stored or spec.quantize,
        "double_quant": spec.double_quant if spec.quantize == "nf4" and stored is None else None,
        "weights_held": storage,
        "dtype": dtype_name,
        "dtype_reason": dtype_why,
        "device": str(device),
        "threads": threads,
        "threads_reason": threads_why,
        "remarks": warnings,
    }
    return LoadedModel(
        model=model,
        profile=profile,
        dtype=dtype,
        device=device,
        max_tokens=context_of(config),
        weights_sha256=weights_sha256,
        rope_limit=rope_limit(model),
        info=info,
    )


def _read_weights(
    files: ModelFiles, config: Any, spec: ModelConfig, options: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    """The model as transformers loads it, without gradients, and the keys of its files that it has no place for."""
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
    if is_hub_id(spec.name):  # peft writes it into adapters, for those who load them elsewhere
        model.name_or_path = model.config.name_or_path = spec.name
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


def _refuse_pickle(files: ModelFiles, spec: ModelConfig) -> None:
    """Only safetensors are read, recognized by their content (`weight_formats`)."""
    refuse_pickles(files.weights, where=spec.name, allow_pickle=spec.allow_pickle)
    if not files.weights and not spec.allow_pickle:  # there may be pickles and nothing else
        pickled = {file.name: file for file in sorted(files.folder.iterdir()) if file.suffix in PICKLED}
        refuse_pickles(pickled, where=spec.name, allow_pickle=False)


def choose_weight_storage(spec: ModelConfig, as_loaded: float, device: str, free: int) -> str:
    """How the weights are stored in memory: `plain`, `packed` or `dequantized`.

    `as_loaded` is the bytes of the weights in the compute dtype; `auto` leaves half of the `free` bytes for the work.
    """
    if spec.quantize == "none":
        return "plain"
    if spec.quantize == "int8":
        return "packed"
    if spec.hold != "auto":
        return spec.hold
    return "dequantized" if device == "cpu" or 2 * as_loaded < free else "packed"
