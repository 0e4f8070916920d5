"""A small model of a large one's classes, with random weights: what 16-bit rounding hides shows there in float32.

Layers, widths and vocabulary shrink; what decides how tokens meet each other stays: kinds of layers, grouped heads,
head size, rotary settings, windows (narrower, so that short rows leave them), soft caps, scalings.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch

from triptych.models.shape import largest

logger = logging.getLogger(__name__)

VOCABULARY = 320
_LAYERS, _HEADS, _WINDOW = 8, 4, 16
_INNER_NAMES = (
    *("intermediate_size", "intermediate_size_mlp", "moe_intermediate_size", "shared_expert_intermediate_size"),
    *("shared_intermediate_size", "n_inner", "ffn_dim", "dff"),
)
_EXPERT_NAMES = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_MOST = {
    **dict.fromkeys(_INNER_NAMES, 48),
    **dict.fromkeys(_EXPERT_NAMES, 8),
    **{"num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_topk": 2, "moe_k": 2},
}
_WINDOW_NAMES = ("sliding_window", "attention_window_size", "window_size", "local_attention", "attention_chunk_size")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id")
_MOST_PARAMETERS = 150_000_000


def small_copy(model: Any, *, seed: int = 0) -> Any | None:
    """A small float32 model on the CPU whose decoder is of the same class as this model's; None if none can be made."""
    kind = type(model.get_decoder())
    config = model.config.get_text_config()
    for shrink in (_shrink_all, _shrink_length):
        try:
            small = _build(shrink(copy.deepcopy(config)), type(model))
        except Exception as error:  # an architecture's own code may raise anything at sizes it wasn't written for
            logger.debug("no small copy of %s with %s: %s", kind.__name__, shrink.__name__, error)
            continue
        if type(small.get_decoder()) is kind:
            _draw(small, seed)
            return small
    return None


def _build(config: Any, kind: type) -> Any:
    from transformers import AutoModelForCausalLM

    def make() -> Any:
        try:
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except ValueError:  # the text model inside one of text and images, say
            return kind(config)

    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            size = sum(p.numel() for p in make().parameters())
        if size > _MOST_PARAMETERS:
            raise ValueError(f"{size} parameters are not small")
        return make().eval()


@torch.no_grad()
def _draw(model: Any, seed: int) -> None:
    """Draw weights large enough that every part of the model changes its output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * max(parameter.shape[-1], 16) ** -0.5)
        elif "A_log" not in name and "dt_bias" not in name:
            parameter.add_(noise * 0.2)


def _shrink_length(config: Any) -> Any:
    """Fewer layers and tokens, narrower windows."""
    layers = _layers_of(config)
    before = largest(config, "num_hidden_layers", default=1)
    if layers < before:
        for name, value in list(vars(config).items()):
            if isinstance(value, list) and len(value) == before:
                setattr(config, name, value[:layers])
        config.num_hidden_layers = layers
        if (shared := getattr(config, "num_kv_shared_layers", 0)) and shared >= layers:
            config.num_kv_shared_layers = layers // 4
    _set(config, min(largest(config, "vocab_size", default=VOCABULARY), VOCABULARY), "vocab_size")
    if hasattr(config, "vocab_size_per_layer_input"):
        config.vocab_size_per_layer_input = config.vocab_size
    for number, name in enumerate(_IDS):
        if getattr(config, name, None) is not None:  # within the vocabulary; their meaning plays no part here
            setattr(config, name, number)
    for name in _WINDOW_NAMES:
        if (window := getattr(config, name, None)) and isinstance(window, int):
            setattr(config, name, min(window, _WINDOW))
    return config


def _shrink_all(config: Any) -> Any:
    """Narrower too: heads of the same size, but few of them, and little else."""
    config = _shrink_length(config)
    heads = largest(config, "num_attention_heads", default=1)
    kv_heads = largest(config, "num_key_value_heads", default=heads)
    fewer_kv = max(1, min(kv_heads, _HEADS * kv_heads // heads))
    fewer = fewer_kv * min(heads // kv_heads, _HEADS)
    hidden = largest(config, "hidden_size", default=1)
    narrow = hidden * fewer // heads
    if hidden % heads or largest(config, "head_dim", default=0):  # kernels want whole groups of 16 bytes
        narrow = -(-narrow // 16) * 16
    _set(config, narrow, "hidden_size")
    _set(config, fewer, "num_attention_heads")
    if getattr(config, "num_key_value_heads", None) is not None:
        _set(config, fewer_kv, "num_key_value_heads")
    if getattr(config, "word_embed_proj_dim", None) == hidden:
        config.word_embed_proj_dim = narrow
    for name, most in _MOST.items():
        value = getattr(config, name, None)
        if isinstance(value, list) and name in _INNER_NAMES:
            setattr(config, name, [min(most, n) for n in value])
        elif isinstance(value, int) and value > most:
            setattr(config, name, most)
    return config


def _layers_of(config: Any) -> int:
    """Enough layers that every kind of them is there."""
    n = largest(config, "num_hidden_layers", default=1)
    lists = [v for v in vars(config).values() if isinstance(v, list) and len(v) == n and n > 1]
    kinds = list(map(repr, zip(*lists, strict=True)))
    needed = max((kinds.index(kind) + 1 for kind in set(kinds)), default=1)
    return min(n, max(needed, _LAYERS))


def _set(config: Any, value: int, name: str) -> None:
    """Set a size by the name that transformers knows for it in every family."""
    setattr(config, getattr(config, "attribute_map", {}).get(name, name), value)
