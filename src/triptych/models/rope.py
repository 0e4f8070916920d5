"""Rotary embeddings whose frequencies depend on how long the whole sequence is.

    longrope (Phi-3, Phi-4-mini)    up to `original_max_position_embeddings` tokens the short factors, beyond it the
                                    long ones, for all positions of the sequence
    dynamic (NTK)                   beyond the model's positions, frequencies that fit the sequence's own length

transformers decides this by the longest position of a forward pass. A row that is longer than the limit is therefore
computed by itself, and a module that remembers the last sequence's frequencies is reset before.
"""

from __future__ import annotations

from typing import Any


def rope_limit(model: Any) -> int | None:
    """Tokens up to which a row's rotary frequencies don't depend on its length; None where they never do."""
    limits = []
    for module in model.modules():
        for prefix, kind in _kinds_of(module):
            if "dynamic" in kind:
                limits.append(int(module.original_max_seq_len))
            elif kind == "longrope":
                settings = module.config.rope_parameters
                of_layers = settings.get(prefix.removesuffix("_"), settings) if prefix else settings
                limits.append(int(of_layers["original_max_position_embeddings"]))
    return min(limits, default=None)


def reset_rope(model: Any) -> None:
    """Make modules with dynamic frequencies forget the longest sequence so far."""
    for module in model.modules():
        for prefix, kind in _kinds_of(module):
            if "dynamic" in kind:
                original = getattr(module, f"{prefix}original_inv_freq")
                buffer = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(f"{prefix}inv_freq", original.to(buffer.device), persistent=False)
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _kinds_of(module: Any) -> list[tuple[str, str]]:
    """Prefix of its buffers and rope type, one a layer type where a model has several."""
    kind = getattr(module, "rope_type", None)
    if isinstance(kind, str):
        return [("", kind)]
    if isinstance(kind, dict):
        return [(f"{name}_", of_layers) for name, of_layers in kind.items() if isinstance(of_layers, str)]
    return []
