"""Data parallel training: `torchrun` starts several processes, and each takes its share of every step.

    rows of the step ─► shares of about as many tokens ─► each rank: gradient of its share / scored tokens of the STEP
                                                       ─► summed over the ranks: the gradient one process would have

Every rank holds the whole model, adapter and optimizer, and does the same update. Rank 0 alone evaluates, logs and
writes; the others take what it decided (`broadcast`, `on_rank0`). A checkpoint is read by all ranks, so all of them
must see the run's folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from triptych.errors import ConfigError, TriptychError
from triptych.models.device import choose_device
from triptych.prompts import Rendered

T = TypeVar("T")
_PATIENCE = timedelta(days=2)
"""The others wait this long for rank 0, which may be scoring thousands of rows. A rank that dies ends the group."""


@dataclass(frozen=True)
class World:
    """This process's rank and how many there are. With one process, every method is a plain call."""

    rank: int = 0
    size: int = 1

    @property
    def is_rank0(self) -> bool:
        """Whether this is the rank that evaluates and writes."""
        return self.rank == 0

    def seed(self, *parts: object) -> int:
        """A seed of this rank's own, the same whenever and wherever it is asked for."""
        name = ":".join(map(str, ("triptych", *parts, self.rank)))
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank. Anything that can be pickled."""
        if self.size == 1:
            return value
        box = [value if self.is_rank0 else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def on_rank0(self, work: Callable[[], T]) -> T:
        """Do something on rank 0 alone; all wait for it and get what it returned.

        Raises:
            TriptychError: on the other ranks, when rank 0 failed. There, the error itself is raised.
        """
        if self.size == 1:
            return work()
        outcome: tuple[T | None, str | None] = (None, None)
        if self.is_rank0:
            try:
                outcome = (work(), None)
            except BaseException as error:
                self.broadcast((None, str(error) or type(error).__name__))
                raise
        result, failed = self.broadcast(outcome)
        if failed is not None:
            raise TriptychError(f"rank 0 stopped, and rank {self.rank} with it: {failed.splitlines()[0]}")
        return result  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank: all ranks get the same answer."""
        return self.sum(float(flag)) > 0

    def sum(self, value: float) -> float:
        """Sum over the ranks, in double precision. NaN on one is NaN on all."""
        if self.size == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(total)
        return float(total.item())

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the ranks; a rank without one adds zero."""
        if self.size == 1:
            return
        every = list(parameters)
        # one message instead of hundreds
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in every])
        dist.all_reduce(flat)
        for parameter, part in zip(every, torch.split(flat, [p.numel() for p in every]), strict=True):
            parameter.grad = part.view_as(parameter)


def current_world(environment: Mapping[str, str] | None = None) -> World:
    """Which process of how many this is, as `torchrun` says in RANK and WORLD_SIZE.

    Raises:
        ConfigError: the two don't fit together.
    """
    variables = os.environ if environment is None else environment
    if "RANK" not in variables or "WORLD_SIZE" not in variables:
        return World()
    rank, size = variables["RANK"], variables["WORLD_SIZE"]
    try:
        world = World(int(rank), int(size))
    except ValueError:
        world = World(-1, 0)
    if not 0 <= world.rank < world.size:
        raise ConfigError(
            "the environment names no process of a group",
            where="environment",
            found=f"RANK={rank}, WORLD_SIZE={size}",
            expected="0 <= RANK < WORLD_SIZE, as torchrun sets them",
            fix="start with `torchrun --no-python --nproc-per-node N triptych …`, or unset both",
        )
    return world


@contextmanager
def process_group(device: str = "auto") -> Iterator[World]:
    """Join the process group that `torchrun` started, and leave it after; nothing to join for a process alone.

    gloo carries tensors in memory, NCCL those on GPUs; each rank of a machine gets its own GPU. `device`: the model's,
    as in `ModelConfig`.
    """
    world = current_world()
    if world.size == 1:
        yield world
        return
    on_gpu = choose_device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", world.rank)))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield world
    finally:
        dist.destroy_process_group()


def share_of(rows: Sequence[Rendered], world: World) -> list[Rendered]:
    """The rows of a step that are this rank's: longest first, each to the rank with the fewest tokens so far.

    Every rank computes all shares and takes its own, so nothing need be sent.
    """
    shares: list[list[Rendered]] = [[] for _ in range(world.size)]
    tokens = [0] * world.size
    for row in sorted(rows, key=lambda row: (-len(row.ids), row.row_id)):
        lightest = tokens.index(min(tokens))
        shares[lightest].append(row)
        tokens[lightest] += len(row.ids)
    return shares[world.rank]
