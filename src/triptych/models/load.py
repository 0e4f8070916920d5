"""Loading a model by hub id, folder, `.gguf` file or the name `demo`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.config_limits import check_config_file, check_config_sizes
from triptych.models.device import DTYPES, choose_device, choose_dtype, choose_threads, free_memory
from triptych.models.files import ModelFiles, model_files
from triptych.models.gguf import DEMO, demo_gguf, unpack_gguf
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE, explained
from triptych.models.norms import fuse_norms
from triptych.models.quantize import (
    dequantized_once,
    is_quantized_linear,
    keep_differentiable,
    linear_layers,
    quantization_config,
    stored_quantization,
)
from triptych.models.remarks import on_loading
from triptych.models.rope import rope_limit
from triptych.models.shape import largest
from triptych.models.tokenizer import TokenizerProfile, load_tokenizer, profile_of
from triptych.models.weight_formats import PICKLED, refuse_pickles
from triptych.records.run_files import ADAPTER_CONFIG

__all__ = ["LoadedModel", "identify", "load_model", "load_profile"]

logger = logging.getLogger(__name__)

_PICKLED = ("pytorch_model*.bin",)
"""Downloaded where pickles are allowed."""


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
        """See that what was loaded is what was identified before.

        Args:
            expected: hashes by the names that `identify` gives them; those that are not there are not compared.

        Raises:
            ModelError: the model's files were changed in between.
        """
        for key in (key for key in _LOADED if key in expected and expected[key] != self.info.get(key)):
            raise ModelError(
                "the model's files were changed after this command had identified the model by them",
                where=str(self.info.get("name")),
                found=f"{key} {str(self.info.get(key))[:12]}…",
                expected=f"{key} {str(expected[key])[:12]}…",
                fix="run the same command again when nothing writes to the model's files",
            )


_LOADED = ("weights_sha256", "config_sha256", "tokenizer_sha256", "chat_template_sha256")


def identify(spec: ModelConfig) -> dict[str, str]:
    """Hashes of all of a model that can decide a number or a text, without loading the weights.

    `weights_sha256`, `config_sha256` and `tokenizer_sha256`; `chat_template_sha256` and `generation_config_sha256`
    where the model has them.

    Raises:
        ModelError: the model can't be used, or its weights are pickled, and that is not allowed.
    """
    source = _resolve(spec)
    profile = load_profile(spec).record()  # first: what is wrong with it shows before weights are read or downloaded
    _refuse_pickle(source, spec)
    files = _files(source, spec)
    found = {
        "weights_sha256": files.weights_sha256,
        "config_sha256": files.config_sha256,
        "tokenizer_sha256": profile["tokenizer_sha256"],
        "chat_template_sha256": profile.get("chat_template_sha256"),
        "generation_config_sha256": files.generation_config_sha256,
    }
    return {name: sha256 for name, sha256 in found.items() if sha256 is not None}


def load_profile(spec: ModelConfig) -> TokenizerProfile:
    """The tokenizer profile alone; touches no weights (except a GGUF file's, which holds its tokenizer)."""
    source = _resolve(spec)
    config = _config(source, spec)  # first: the tokenizer's classes read it too, and would be blamed for it
    return profile_of(load_tokenizer(source, revision=spec.revision), getattr(config, "eos_token_id", None))


def load_model(spec: ModelConfig) -> LoadedModel:
    """Load weights and tokenizer, quantize, and put the model into evaluation mode.

    Raises:
        ModelError: anything missing or unreadable, with what was looked for and where.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    source = _resolve(spec)
    before = _files(source, spec).state() if isinstance(source, Path) else {}  # the hub's files are never rewritten
    config = _config(source, spec)
    profile = profile_of(load_tokenizer(source, revision=spec.revision), getattr(config, "eos_token_id", None))
    device = choose_device(spec.device)
    dtype_name, dtype_why = choose_dtype(spec.dtype, device)
    dtype = DTYPES[dtype_name]
    threads, threads_why = choose_threads(spec.threads, dtype) if device.type == "cpu" else (0, "on a GPU")
    stored = stored_quantization(config)
    hold = _choose_hold(spec, source, device, dtype) if stored is None else "packed"
    _refuse_pickle(source, spec)
    options: dict[str, Any] = {"dtype": dtype, "revision": spec.revision, **NO_CODE}
    options["use_safetensors"] = None if spec.allow_pickle else True
    if hold == "packed":
        options["device_map"] = {"": device}
    if hold == "packed" and stored is None:
        options["quantization_config"] = quantization_config(spec.quantize, dtype=dtype, double_quant=spec.double_quant)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(source, config=config, output_loading_info=True, **options)
    except LIBRARY_ERRORS as error:
        raise _unreadable(spec, error) from error
    if missing := sorted(report["missing_keys"]):  # transformers fills them with random numbers
        raise ModelError(
            "the model's files lack some of its weights",
            where=spec.name,
            found=f"{len(missing)} missing, {missing[0]} the first",
            fix="download or save the model again; all *.safetensors files are needed",
        )
    remarks = on_loading(model, sorted(report["unexpected_keys"]), spec.quantize, stored)
    for remark in remarks:
        logger.warning("%s", remark)
    model.requires_grad_(False)
    if hold == "packed":
        keep_differentiable(model)
        if stored is None:
            _require_quantized(model, spec)
    if hold == "dequantized":
        # quantized where it will be used: 7 billion weights take seconds on a GPU and minutes on a CPU
        model = model.to(device)
        dequantized_once(model, double_quant=spec.double_quant)
    model = model.eval() if hold == "packed" else model.to(device).eval()
    if device.type == "cuda":
        fuse_norms(model)
    positions = largest(config.get_text_config(), "max_position_embeddings", default=0)
    files = _files(source, spec)
    weights_sha256 = files.weights_sha256
    _refuse_changed(before or files.state(), files.state(), spec)
    loaded = LoadedModel(
        model=model,
        profile=profile,
        dtype=dtype,
        device=device,
        max_tokens=positions if positions > 0 else None,  # XLNet says -1
        weights_sha256=weights_sha256,
        rope_limit=rope_limit(model),
    )
    loaded.info = {
        "name": spec.name,
        "revision": spec.revision,
        "architecture": type(model).__name__,
        "weights_sha256": loaded.weights_sha256,
        "config_sha256": files.config_sha256,
        **profile.record(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "quantize": stored or spec.quantize,
        "double_quant": spec.double_quant if spec.quantize == "nf4" and stored is None else None,
        "weights_held": hold,
        "dtype": dtype_name,
        "dtype_reason": dtype_why,
        "device": str(device),
        "threads": threads,
        "threads_reason": threads_why,
        "remarks": remarks,
    }
    return loaded


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


def _resolve(spec: ModelConfig) -> Path | str:
    """A folder, or a hub id for transformers to find."""
    if spec.name == DEMO:
        return unpack_gguf(demo_gguf())
    path = Path(spec.name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("there is no such GGUF file", where=spec.name, fix="check the path")
        return unpack_gguf(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            if (path / ADAPTER_CONFIG).is_file():
                raise ModelError(
                    "this folder holds an adapter, not a model",
                    where=spec.name,
                    found="adapter_config.json and no config.json",
                    expected="config.json, *.safetensors and tokenizer files",
                    fix=f"give the base model with --model, and this folder with --adapter {spec.name}",
                )
            raise ModelError(
                "this folder is not a model",
                where=spec.name,
                found=", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing",
                expected="config.json, *.safetensors and tokenizer files",
                fix="give the folder that transformers' save_pretrained wrote",
            )
        return path
    if path.is_file() or spec.name.count("/") > 1 or spec.name.startswith((".", "/", "~")):
        raise ModelError(
            "there is no such model folder",
            where=spec.name,
            expected="a folder, a .gguf file, a hub id such as owner/name, or `demo`",
        )
    return spec.name


def _config(source: Path | str, spec: ModelConfig) -> Any:
    from transformers import AutoConfig, PreTrainedConfig

    if isinstance(source, Path):
        check_config_file(source / "config.json")
    try:
        if not isinstance(source, Path):
            check_config_sizes(PreTrainedConfig.get_config_dict(source, revision=spec.revision)[0], spec.name)
        return AutoConfig.from_pretrained(source, revision=spec.revision, **NO_CODE)
    except LIBRARY_ERRORS as error:
        raise _unreadable(spec, error) from error


def _unreadable(spec: ModelConfig, error: Exception) -> ModelError:
    return explained(
        error,
        "the model can't be loaded",
        where=spec.name,
        expected="config.json and *.safetensors in a folder, a .gguf file, a hub id that can be reached, or `demo`",
        fix="check what `found` names, or copy or download the model again"
        if Path(spec.name).expanduser().exists()
        else "check the name; without a network, give a folder",
    )


def _refuse_pickle(source: Path | str, spec: ModelConfig) -> None:
    """Only safetensors are read, told by their content (`weight_formats`); a model of the hub is downloaded first."""
    weights = _files(source, spec).weights
    refuse_pickles(weights, where=spec.name, allow_pickle=spec.allow_pickle)
    if not weights and isinstance(source, Path) and not spec.allow_pickle:  # pickles lie there, and nothing else
        pickled = {file.name: file for file in sorted(source.iterdir()) if file.suffix in PICKLED}
        refuse_pickles(pickled, where=spec.name, allow_pickle=False)


def _choose_hold(spec: ModelConfig, source: Path | str, device: torch.device, dtype: torch.dtype) -> str:
    """How the weights will lie in memory: `plain`, `packed` or `dequantized`."""
    if spec.quantize == "none":
        return "plain"
    if spec.quantize == "int8":
        return "packed"
    if spec.hold != "auto":
        return spec.hold
    size = _files(source, spec).bytes_of_weights()
    # the file may be 2 or 4 bytes a parameter; as loaded it is the dtype's. Half of what is free is left for the work.
    fits = size * (dtype.itemsize / 2) * 2 < free_memory(device)
    return "dequantized" if fits or device.type == "cpu" else "packed"


def _files(source: Path | str, spec: ModelConfig) -> ModelFiles:
    """The files the model is read from; a model of the hub is downloaded first."""
    if isinstance(source, Path):
        return model_files(source, name=spec.name, allow_pickle=spec.allow_pickle)
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", *(_PICKLED if spec.allow_pickle else ())]
    try:
        folder = snapshot_download(source, revision=spec.revision, allow_patterns=wanted)
    except (OSError, ValueError) as error:  # no network, no such model, no right to it
        raise _unreadable(spec, error) from error
    return model_files(Path(folder), name=spec.name, allow_pickle=spec.allow_pickle)


def _refuse_changed(
    before: Mapping[str, tuple[int, ...]], after: Mapping[str, tuple[int, ...]], spec: ModelConfig
) -> None:
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise ModelError(
            "the model's files changed while they were read",
            where=spec.name,
            found=", ".join(changed[:4]),
            fix="run the same command again when nothing writes to the model's files",
        )
