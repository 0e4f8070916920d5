"""How big a model is, from its configuration alone: built on torch's `meta` device, where tensors have no data.

Exact for any architecture that transformers knows, since it is transformers that builds it; a 70-billion-parameter
model takes a second and no memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from triptych.errors import ModelError
from triptych.models.library_errors import reason_of
from triptych.models.quantize import linear_layers


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths that decide how much memory a token takes, of the widest layer where layers differ."""

    n_layers: int
    hidden_size: int
    intermediate_size: int
    """Width of the feed-forward part."""
    n_heads: int
    n_kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class ModelShape(Sizes):
    """Sizes that decide a model's memory and time."""

    vocab_size: int
    """Rows of the output head."""
    linear_parameters: int
    """Weights of the layers that are quantized and adapted: all linear ones but the output head. Without biases."""
    embedding_parameters: int
    """Input embedding and output head, counted once where they are one."""
    other_parameters: int
    """Norms, biases, positions, and experts held in one tensor."""
    targets: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(in, out) of every linear layer, by the last part of its name, in the model's order."""
    max_positions: int | None = None
    """Positions the model was made for; None if it doesn't say."""
    sliding_window: int | None = None
    """Tokens that the layers with a window see back; None if all layers see everything."""

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear_parameters + self.embedding_parameters + self.other_parameters

    def lora_parameters(self, r: int, target_modules: tuple[str, ...] | None = None) -> int:
        """Trainable parameters of an adapter of rank r: r (in + out) for each adapted layer. None: all of `targets`."""
        names = self.targets if target_modules is None else target_modules
        return sum(r * (n_in + n_out) for name in names for n_in, n_out in self.targets.get(name, []))


def shape_of(config: Any) -> ModelShape:
    """Sizes of the causal language model that a transformers configuration describes.

    Raises:
        ModelError: it describes none.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, AttributeError, TypeError, RuntimeError, ImportError, LookupError) as error:
        raise ModelError(
            "no causal language model can be built from this configuration",
            where=str(getattr(config, "name_or_path", "") or getattr(config, "model_type", "config.json")),
            found=reason_of(error, named=True),
            expected="the config.json of a causal language model that transformers knows",
        ) from error
    text = config.get_text_config()
    targets: dict[str, list[tuple[int, int]]] = {}
    linear = 0
    for name, layer in linear_layers(model):
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        n_in, n_out = weight.shape if not isinstance(layer, nn.Linear) else reversed(weight.shape)  # Conv1D: (in, out)
        targets.setdefault(name.rsplit(".", 1)[-1], []).append((int(n_in), int(n_out)))
        linear += weight.numel()
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    ends = {id(weight): weight.numel() for weight in (embedding, head)}
    return ModelShape(
        **asdict(sizes_of(text)),
        vocab_size=int(head.shape[0]),
        linear_parameters=linear,
        embedding_parameters=sum(ends.values()),
        other_parameters=sum(p.numel() for p in model.parameters()) - linear - sum(ends.values()),
        targets=targets,
        max_positions=context_of(text),
        sliding_window=largest(text, "sliding_window", default=0) or None,
    )


def sizes_of(config: Any) -> Sizes:
    """Sizes that a (text) model's configuration gives: families name them differently, some give one a layer."""
    hidden = largest(config, "hidden_size", default=1)
    n_heads = largest(config, "num_attention_heads", default=1)
    return Sizes(
        n_layers=largest(config, "num_hidden_layers", default=1),
        hidden_size=hidden,
        intermediate_size=largest(config, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        n_heads=n_heads,
        n_kv_heads=largest(config, "num_key_value_heads", default=n_heads),
        # multi-head latent attention (DeepSeek) has keys of another size than `head_dim` says
        head_dim=largest(config, "qk_head_dim", "head_dim", default=max(1, hidden // n_heads)),
    )


def context_of(config: Any) -> int | None:
    """Positions the model was made for; None if its configuration doesn't say."""
    positions = largest(config.get_text_config(), "max_position_embeddings", default=0)
    return positions if positions > 0 else None  # XLNet says -1


def largest(config: Any, *names: str, default: int) -> int:
    """The first of these settings that has a number: its largest over the layers where they differ."""
    layers = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    for name in names:
        values = [getattr(layer, name, None) for layer in layers]
        numbers = [n for value in values for n in (value if isinstance(value, list | tuple) else [value])]
        if numbers := [n for n in numbers if isinstance(n, int) and not isinstance(n, bool)]:
            return max(numbers)
    return default
