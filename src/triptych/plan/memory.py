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

from triptych.config.choices import DtypeName
from triptych.config.tune import TuneConfig
from triptych.models import LoraSettings
from triptych.models.device import DTYPES
from triptych.models.shape import ModelShape
from triptych.plan.tokens import Work
from triptych.training.memory import Held as HeldAs
from triptych.training.memory import PassSize, training_bytes, weight_bytes

__all__ = ["Held", "MemoryNeed", "MemoryVerdict", "memory_need", "scoring_budget"]

Held = Literal["plain", "dequantized", "packed"]

LIBRARIES = 120 << 20
"""What is imported after planning: peft, bitsandbytes, figures (measured: 95 MB)."""
GPU_PROCESS = 600 << 20
"""CUDA context and kernels of a process on a GPU."""
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


def scoring_budget(shape: ModelShape, free: int, *, gpu: bool) -> int:
    """Tokens of a pass that the scorer would allow itself: `likelihood.score.default_budget` on a shape."""
    return max(256, min(16_384 if gpu else 2048, free // 4 // _pass_token(shape, 4)))


def memory_need(
    shape: ModelShape,
    held: Held,
    *,
    quantize: str,
    double_quant: bool,
    dtype: DtypeName,
    process: int,
    scoring: Work,
    budget: int,
    training: PassSize | None,
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
        dtype: the compute dtype.
        process: bytes of the process without the model.
        scoring: the work of all cells together.
        budget: tokens of a scoring pass.
        training: the training pass that takes most memory; None without a training.
        tune: its settings.
        recompute: with activation checkpointing.
        gpu: whether the model lies on a GPU.
    """
    itemsize = DTYPES[dtype].itemsize
    lying: HeldAs = "int8" if quantize == "int8" else held
    # files are mapped; what is converted on the way (a 16-bit file to float32, or to 4 bits) is there twice meanwhile
    from_file = 2 * (shape.parameters if itemsize == 4 else shape.linear_parameters if held == "packed" else 0)
    return MemoryNeed(
        process=GPU_PROCESS if gpu else process + LIBRARIES,
        weights=weight_bytes(shape, dtype, lying, double_quant=double_quant),
        loading=0 if gpu else from_file,
        scoring=_scoring_bytes(shape, scoring, budget, itemsize),
        training=_training_bytes(shape, training, tune, lying, dtype, recompute=recompute, gpu=gpu) if training else 0,
    )


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
    shape: ModelShape, largest: PassSize, tune: TuneConfig, held: HeldAs, dtype: str, *, recompute: bool, gpu: bool
) -> int:
    lora = LoraSettings.of(tune)
    need = training_bytes(
        shape,
        largest,
        r=lora.r,
        target_modules=lora.target_modules,
        dtype=dtype,
        held=held,
        recompute=recompute,
        dropout=tune.dropout > 0,
        use_dora=tune.use_dora,
        device="cuda" if gpu else "cpu",
    )
    return need.adapter + need.step
