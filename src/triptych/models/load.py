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
from triptych.models.kept_values import KeptValues, Made
from triptych.models.norms import fuse_norms
from triptych.models.quantize import dequantized_once, stored_quantization
from triptych.models.read_weights import read_weights
from triptych.models.rope import rope_limit
from triptych.models.shape import context_of
from triptych.models.source import ModelFiles, header_folder, is_hub_id, model_files, model_folder
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

    def make() -> Made:
        model, warnings = read_weights(files, config, spec, dtype=dtype, device=device, packed=storage == "packed")
        if storage == "dequantized":
            # on the device: 7 billion weights take seconds on a GPU and minutes on a CPU
            dequantized_once(model, double_quant=spec.double_quant)
        _check_unchanged(files, before, spec.name)
        return model, warnings

    kept = _kept_values(files, config, spec, dtype) if storage == "dequantized" and device.type == "cpu" else None
    model, warnings = make() if kept is None else kept.load(make)
    for warning in warnings:
        logger.warning("%s", warning)
    if is_hub_id(spec.name):  # peft writes it into adapters, for those who load them elsewhere
        model.name_or_path = model.config.name_or_path = spec.name
    model.eval()
    if device.type == "cuda":
        fuse_norms(model)
    weights_sha256 = files.weights_sha256
    _check_unchanged(files, before, spec.name)
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


def _kept_values(files: ModelFiles, config: Any, spec: ModelConfig, dtype: torch.dtype) -> KeptValues | None:
    """The place in the cache for the values of these weights; None if they aren't all there (loading says so)."""
    if not files.weights or not all(path.is_file() for path in files.weights.values()):
        return None
    hashes = {"weights_sha256": files.weights_sha256, "config_sha256": files.config_sha256}
    return KeptValues.of(files.folder, config, dtype, **hashes, quantize=spec.quantize, double_quant=spec.double_quant)


def _check_unchanged(files: ModelFiles, before: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise ModelError if one of the files was changed, or came or went, since `before`."""
    after = files.state()
    if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        raise ModelError(
            "the model's files changed while they were read",
            where=name,
            found=", ".join(changed[:4]),
            fix="run the same command again when nothing writes to the model's files",
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
