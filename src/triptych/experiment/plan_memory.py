"""How much memory an experiment takes at its peak, from the model's shape and the tokens of its passes.

    process     Python, torch and the tokenizer: measured in this process, which has all of them
    weights     as they are held: plain, packed in 4 or 8 bits, or dequantized once
    loading     what is held only while the weights are read
    scoring     keys and values of shared prefixes and the activations of one pass of the scorer's budget; or, where
                that is more, the whole logits of the rows on which the scorer tries the model first
    training    `tune.memory` (adapter, gradients, AdamW's moments, activations of one pass)

Weights stay; of loading, scoring and training only one happens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from triptych.experiment.plan_tokens import Work
from triptych.models.shape import ModelShape
from triptych.tune import TuneConfig

__all__ = ["MemoryNeed", "MemoryVerdict", "held_bytes", "memory_need", "scoring_budget", "verdicts"]

Held = Literal["plain", "dequantized", "packed"]

LIBRARIES = 120 << 20
"""What is imported after planning: peft, bitsandbytes, figures (measured: 95 MB)."""
GPU_PROCESS = 600 << 20
"""CUDA context and kernels of a process on a GPU."""
_KEPT_BY_MALLOC = 1.35
"""A CPU's allocator keeps part of what was freed between passes of unlike sizes (measured: 2.65 against 2.28 GB)."""
_HEAD_ROWS, _HEAD_COLUMNS = 256, 4096  # likelihood.head: rows and columns of a product, float32 and the model's dtype


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes, by what takes them."""

    process: int
    weights: int
    loading: int
    scoring: int
    training: int
    """0 without a training."""

    @property
    def peak(self) -> int:
        """Most at one time."""
        return self.process + self.weights + max(self.loading, self.scoring, self.training)


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """One way to hold the model, on one machine."""

    held: Held
    recompute: bool | None
    """With activation checkpointing; None without a training."""
    need: MemoryNeed
    available: int
    """Bytes of the machine that are free, or of the one that was named."""
    chosen: bool
    """Whether the run would do it this way, as far as its settings say."""

    @property
    def fits(self) -> bool:
        """Whether the need stays within what is there."""
        return self.need.peak <= self.available


def held_bytes(shape: ModelShape, held: Held, *, quantize: str, double_quant: bool, itemsize: int) -> int:
    """Bytes of the weights as they lie in memory."""
    rest = (shape.embedding_parameters + shape.other_parameters) * itemsize
    if held != "packed":
        return shape.linear_parameters * itemsize + rest
    if quantize == "int8":
        return shape.linear_parameters + 4 * sum(n_out for pairs in shape.targets.values() for _, n_out in pairs) + rest
    # half a byte a weight, and per block of 64 an absmax: float32, or 8 bits and a float32 for 256 of them
    per_block = 1 + 4 / 256 if double_quant else 4
    return int(shape.linear_parameters * (0.5 + per_block / 64)) + rest


def scoring_budget(shape: ModelShape, free: int, *, gpu: bool) -> int:
    """Tokens of a pass that the scorer would allow itself: `likelihood.score.default_budget` on a shape."""
    return max(256, min(16_384 if gpu else 2048, free // 4 // _pass_token(shape, 4)))


def memory_need(
    shape: ModelShape,
    held: Held,
    *,
    quantize: str,
    double_quant: bool,
    itemsize: int,
    process: int,
    scoring: Work,
    budget: int,
    training: Work | None,
    tune: TuneConfig,
    recompute: bool,
    gpu: bool,
) -> MemoryNeed:
    """Peak bytes of an experiment, by what takes them.

    Args:
        shape: the model's.
        held: how its weights lie.
        quantize: `nf4`, `int8` or `none`.
        double_quant: NF4's block scales quantized again.
        itemsize: bytes of a number of the compute dtype.
        process: bytes of the process without the model.
        scoring: the work of all cells together.
        budget: tokens of a scoring pass.
        training: the work of the training, if there is one.
        tune: its settings.
        recompute: with activation checkpointing.
        gpu: whether the model lies on a GPU.
    """
    weights = held_bytes(shape, held, quantize=quantize, double_quant=double_quant, itemsize=itemsize)
    # files are mapped; what is converted on the way (a 16-bit file to float32, or to 4 bits) is there twice meanwhile
    from_file = 2 * (shape.parameters if itemsize == 4 else shape.linear_parameters if held == "packed" else 0)
    return MemoryNeed(
        process=GPU_PROCESS if gpu else process + LIBRARIES,
        weights=weights,
        loading=0 if gpu else from_file,
        scoring=_scoring_bytes(shape, scoring, budget, itemsize),
        training=_training_bytes(shape, training, tune, itemsize, recompute=recompute, gpu=gpu) if training else 0,
    )


def verdicts(needs: list[tuple[Held, bool | None, MemoryNeed, bool]], available: int) -> list[MemoryVerdict]:
    """Every way to hold the model against what there is."""
    return [MemoryVerdict(held, recompute, need, available, chosen) for held, recompute, need, chosen in needs]


def _scoring_bytes(shape: ModelShape, work: Work, budget: int, itemsize: int) -> int:
    kv = 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * itemsize
    tokens = min(budget, work.forward)
    passes = work.kept * kv + tokens * _pass_token(shape, itemsize) + _head_bytes(shape, itemsize)
    return max(passes, _probe_bytes(shape, itemsize))


def _probe_bytes(shape: ModelShape, itemsize: int) -> int:
    """`likelihood.probe`: one row through the model's own forward, with logits at every position."""
    window, limit = shape.sliding_window or 0, min(shape.max_positions or 2048, 2048)
    tokens = (window + 8 if window + 64 < limit else 24) + 31
    return tokens * (shape.vocab_size * itemsize + _pass_token(shape, itemsize))


def _head_bytes(shape: ModelShape, itemsize: int) -> int:
    columns = min(_HEAD_COLUMNS, shape.vocab_size)
    return _HEAD_ROWS * columns * (itemsize + 4)


def _pass_token(shape: ModelShape, itemsize: int) -> int:
    """Bytes of a token of a pass without a gradient, as `likelihood.score.default_budget` counts them."""
    kv = 2 * shape.n_kv_heads * shape.head_dim
    return (8 * shape.hidden_size + 4 * shape.intermediate_size + 9 * kv) * itemsize


def _training_bytes(
    shape: ModelShape, work: Work, tune: TuneConfig, itemsize: int, *, recompute: bool, gpu: bool
) -> int:
    """Adapter, gradients and moments in float32, and what the layers of one pass keep for the backward."""
    lora = tune.lora()
    adapter = shape.lora_parameters(lora.r, lora.target_modules) * 16  # weights, gradients, two moments
    tokens = work.largest_pass
    heads, kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    # inputs of norms, projections and the feed-forward's products; norms, rotation and scores work in float32
    kept = (4 * shape.hidden_size + 3 * heads + 2 * kv + 4 * shape.intermediate_size) * itemsize
    block = tokens * (kept + 16 * shape.hidden_size + 12 * (heads + kv))
    layers = tokens * shape.hidden_size * itemsize * shape.n_layers + block if recompute else block * shape.n_layers
    head = work.largest_pass_scored * shape.hidden_size * 8 + _head_bytes(shape, itemsize)
    return int((adapter + layers + head) * (1 if gpu else _KEPT_BY_MALLOC))
