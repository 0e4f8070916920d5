"""How much memory an experiment takes at its peak, from the model's shape and the tokens of its passes.

    process     Python, torch and the tokenizer: measured in this process, which has all of them
    weights     as they are stored: plain, packed in 4 or 8 bits, or dequantized once
    loading     what is needed only while the weights are read
    scoring     keys and values of shared prefixes and the activations of one pass of the scorer's budget; or, where
                that is more, the whole logits of the rows on which the scorer tries the model first
    training    `training.memory` (adapter, gradients, AdamW's moments, activations of one pass)

Weights stay; of loading, scoring and training only one happens at a time in a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from triptych.config.choices import DtypeName
from triptych.config.experiment import ExperimentConfig
from triptych.likelihood.attention import attention_path
from triptych.likelihood.plan import kv_bytes, pass_bytes, pass_tokens, token_bytes
from triptych.likelihood.probe import probe_tokens
from triptych.models.device import DTYPES, choose_device, choose_dtype, choose_threads, free_memory
from triptych.models.load import choose_weight_storage
from triptych.models.shape import ModelShape
from triptych.plan.rows import Gathered, TrainingRows
from triptych.plan.tokens import Work
from triptych.training.memory import Held, PassSize, bytes_of_training, largest_pass, weight_bytes
from triptych.training.recompute import fits_with_room

LIBRARIES = 120 << 20
"""What is imported after planning: peft, bitsandbytes, figures (measured: 95 MB)."""
GPU_PROCESS = 600 << 20
"""CUDA context and kernels of a process on a GPU."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes of one process, by what takes them, and how many compute at the same time."""

    process: int
    weights: int
    loading: int
    scoring: int
    training: int
    """0 without a training."""
    processes: int = 1
    trainings: int = 1
    """How many of the processes may train at the same time."""
    mapped: bool = False
    """All processes share one copy of the weights."""

    @property
    def peak(self) -> int:
        """Most at one time. Beside several processes that compute there is the main one, without a model."""
        if self.processes == 1:
            return self.process + self.weights + max(self.loading, self.scoring, self.training)
        train = min(self.trainings, self.processes) * max(self.scoring, self.training)
        score = max(0, self.processes - self.trainings) * self.scoring
        weights = self.weights * (1 if self.mapped else self.processes)
        return (self.processes + 1) * self.process + weights + max(self.loading, train + score)


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """One way to store the weights, on one machine."""

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


@dataclass(frozen=True)
class Machine:
    """What it would run on."""

    device: str
    dtype: DtypeName
    dtype_reason: str
    threads: int
    """Of one process."""
    named: bool
    memory: int
    """Bytes in all; of the machine that was named, if one was."""
    free: int
    processes: int = 1
    """That compute at the same time."""

    @classmethod
    def of(cls, config: ExperimentConfig, memory: int | None, processes: int = 1) -> Machine:
        """This machine, or one like it with `memory` bytes."""
        device = choose_device(config.model.device)
        dtype, why = choose_dtype(config.model.dtype, device)
        asked = config.model.threads or (1 if processes > 1 else None)
        threads = choose_threads(asked, DTYPES[dtype])[0] if device.type == "cpu" else 0
        on_gpu = device.type == "cuda"
        here = torch.cuda.mem_get_info(device)[1] if on_gpu else psutil.virtual_memory().total
        return cls(
            str(device),
            dtype,
            why,
            threads,
            memory is not None,
            memory or int(here),
            memory or free_memory(device),
            processes,
        )

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return "cuda" if self.device.startswith("cuda") else "cpu"


def memory_ways(config: ExperimentConfig, shape: ModelShape, work: Gathered, machine: Machine) -> list[MemoryVerdict]:
    """Every way to store the model's weights and to train; that of the run, as it is set, is marked."""
    spec = config.model
    process = int(psutil.Process().memory_info().rss)
    # a machine that was named has nothing on it yet; here, what this process takes would be taken by the run as well
    available = machine.free + (0 if machine.named or machine.kind == "cuda" else process)
    scoring = sum((cell.work for cell in work.cells), sum((t.curve_work for t in work.trainings), Work()))
    largest = [_largest_pass(one, config, machine) for one in work.trainings]
    storages: dict[str, list[Held]] = {"none": ["plain"], "int8": ["packed"]}
    lines = [
        MemoryVerdict(
            held,
            recompute if largest else None,
            memory_need(config, shape, machine, held, process, scoring, largest, recompute=recompute),
            available,
            chosen=False,
        )
        for held in storages.get(spec.quantize, ["dequantized", "packed"])
        for recompute in ((False, True) if largest else (False,))
    ]
    weights = shape.parameters * DTYPES[machine.dtype].itemsize
    mine = [line for line in lines if line.held == choose_weight_storage(spec, weights, machine.kind, machine.free)]
    free = available - mine[0].need.process - mine[0].need.weights
    checkpointing = config.tune.activation_checkpointing
    again = checkpointing == "on" or (checkpointing == "auto" and not fits_with_room(mine[0].need.training, free))
    chosen = mine[-1] if again else mine[0]
    return [replace(line, chosen=line is chosen) for line in lines]


def _largest_pass(one: TrainingRows, config: ExperimentConfig, machine: Machine) -> PassSize:
    """As the training plans it on this machine, in one process."""
    tune = config.tune.model_copy(update={"seed": one.spec.seed})
    padded = attention_path(machine.kind, DTYPES[machine.dtype].itemsize) != "varlen"
    return largest_pass(one.train, tune, padded=padded) if one.train else PassSize(0, 0)


def memory_need(
    config: ExperimentConfig,
    shape: ModelShape,
    machine: Machine,
    held: Held,
    process: int,
    scoring: Work,
    largest: Sequence[PassSize],
    *,
    recompute: bool,
) -> MemoryNeed:
    """Peak bytes of an experiment, by what takes them.

    `process` is what the process takes without the model, `scoring` the work of all cells together, `largest` the pass
    of each training that takes most memory; with `recompute`, trainings checkpoint activations.
    """
    spec, tune, itemsize = config.model, config.tune, DTYPES[machine.dtype].itemsize
    stored: Held = "int8" if spec.quantize == "int8" else held
    on_gpu, dtype = machine.kind == "cuda", machine.dtype
    trained = [
        bytes_of_training(shape, size, tune, dtype=dtype, held=stored, device=machine.kind, recompute=recompute)
        for size in largest
    ]
    # files are mapped; what is converted on the way (a 16-bit file to float32, or to 4 bits) is there twice meanwhile
    from_file = 2 * (shape.parameters if itemsize == 4 else shape.linear_parameters if held == "packed" else 0)
    return MemoryNeed(
        process=GPU_PROCESS if on_gpu else process + LIBRARIES,
        weights=weight_bytes(shape, machine.dtype, stored, double_quant=spec.double_quant),
        loading=0 if on_gpu else from_file,
        scoring=_scoring_bytes(shape, scoring, machine),
        training=max((one.adapter + one.step for one in trained), default=0),
        processes=1 if on_gpu else machine.processes,
        trainings=len(trained),
        mapped=held == "dequantized" and not on_gpu,
    )


def _scoring_bytes(shape: ModelShape, work: Work, machine: Machine) -> int:
    itemsize = DTYPES[machine.dtype].itemsize
    each, budget = token_bytes(shape, itemsize), pass_tokens(shape, machine.free, machine.kind)
    largest = pass_bytes(shape, min(budget, work.forward), itemsize, machine.kind)
    passes = work.kept * kv_bytes(shape, itemsize) + largest
    # the scorer tries the model first: a row through its own forward, with logits at every position
    tried = probe_tokens(shape.sliding_window, shape.max_positions) * (shape.vocab_size * itemsize + each)
    return max(passes, tried)
