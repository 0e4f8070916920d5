"""How much memory an experiment takes at its peak, from the model's shape and the tokens of its passes.

    process     Python, torch and the tokenizer: measured in this process, which has all of them
    weights     as they are held: plain, packed in 4 or 8 bits, or dequantized once
    loading     what is held only while the weights are read
    scoring     keys and values of shared prefixes and the activations of one pass of the scorer's budget; or, where
                that is more, the whole logits of the rows on which the scorer tries the model first
    training    `training.memory` (adapter, gradients, AdamW's moments, activations of one pass)

Weights stay; of loading, scoring and training only one happens at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from triptych.config.choices import DtypeName
from triptych.config.tune import TuneConfig
from triptych.likelihood.head import head_chunk
from triptych.likelihood.plan import kv_bytes, token_bytes
from triptych.likelihood.probe import probe_tokens
from triptych.models import LoraSettings
from triptych.models.device import DTYPES
from triptych.models.shape import ModelShape
from triptych.plan.tokens import Work
from triptych.training.memory import Held, PassSize, training_bytes, weight_bytes

LIBRARIES = 120 << 20
"""What is imported after planning: peft, bitsandbytes, figures (measured: 95 MB)."""
GPU_PROCESS = 600 << 20
"""CUDA context and kernels of a process on a GPU."""


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
    lying: Held = "int8" if quantize == "int8" else held
    device, lora = "cuda" if gpu else "cpu", LoraSettings.of(tune)
    trained = training and training_bytes(
        shape,
        training,
        r=lora.r,
        target_modules=lora.target_modules,
        dtype=dtype,
        held=lying,
        recompute=recompute,
        dropout=tune.dropout > 0,
        use_dora=tune.use_dora,
        device=device,
    )
    # files are mapped; what is converted on the way (a 16-bit file to float32, or to 4 bits) is there twice meanwhile
    from_file = 2 * (shape.parameters if itemsize == 4 else shape.linear_parameters if held == "packed" else 0)
    return MemoryNeed(
        process=GPU_PROCESS if gpu else process + LIBRARIES,
        weights=weight_bytes(shape, dtype, lying, double_quant=double_quant),
        loading=0 if gpu else from_file,
        scoring=_scoring_bytes(shape, scoring, budget, itemsize, device),
        training=trained.adapter + trained.step if trained else 0,
    )


def _scoring_bytes(shape: ModelShape, work: Work, budget: int, itemsize: int, device: str) -> int:
    each, (rows, columns) = token_bytes(shape, itemsize), head_chunk(device)
    head = rows * min(columns, shape.vocab_size) * (itemsize + 4)  # in the model's dtype and in float32
    passes = work.kept * kv_bytes(shape, itemsize) + min(budget, work.forward) * each + head
    # the scorer tries the model first: a row through its own forward, with logits at every position
    tried = probe_tokens(shape.sliding_window, shape.max_positions) * (shape.vocab_size * itemsize + each)
    return max(passes, tried)
