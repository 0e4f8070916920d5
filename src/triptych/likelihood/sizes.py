"""Tokens of a pass of the scorer, and the memory they take: what decoding, training and `plan` ask too."""

from __future__ import annotations

from triptych.models import LoadedModel
from triptych.models.device import free_memory
from triptych.models.shape import Sizes, sizes_of


def token_bytes(sizes: Sizes, itemsize: int) -> int:
    """Bytes of a token of a pass without a gradient.

    About eight hidden states, four of the feed-forward's and its keys and values; and eightfold keys and values are
    reserved for the prefix laid beside it (`plan.batches`).
    """
    return (8 * sizes.hidden_size + 4 * sizes.intermediate_size + 9 * 2 * sizes.n_kv_heads * sizes.head_dim) * itemsize


def kv_bytes(sizes: Sizes, itemsize: int) -> int:
    """Bytes of a token's keys and values in all layers."""
    return 2 * sizes.n_layers * sizes.n_kv_heads * sizes.head_dim * itemsize


def pass_tokens(sizes: Sizes, free: int, device: str) -> int:
    """Tokens of a pass: as many as a quarter of the free memory holds, up to what still makes a pass faster.

    Args:
        sizes: the model's.
        free: bytes.
        device: `cpu` or `cuda`.
    """
    most = 16_384 if device == "cuda" else 2048
    return max(256, min(most, free // 4 // token_bytes(sizes, 4)))


def default_budget(loaded: LoadedModel) -> int:
    """Tokens of a pass of this model, with the memory that is free now."""
    sizes = sizes_of(loaded.model.config.get_text_config())
    return pass_tokens(sizes, free_memory(loaded.device), loaded.device.type)
