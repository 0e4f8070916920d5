"""How much memory a training takes, from the model's sizes alone: before anything is loaded, and to decide what to keep.

Counted is what autograd keeps of a pass until its backward, block by block, as this package computes it (no padding,
head at scored positions only, frozen weights without gradients). `e` is the dtype's bytes a number, C the hidden size,
I the feed-forward's width, H and K query and key heads of size D; per token of the pass and block:

    norms        4 C each           the float32 copy whose square is taken (in float32: the hidden state itself)
    projections  e (C + HD + C + I) inputs that A's gradient needs: of q/k/v, o, gate/up, down; and x A, e r each
    attention    e (2 HD + 2 KD)    query, key, value, output; on a CPU in bfloat16 float32 copies and the shares too
    feed-forward 3 e I              gate, activation, up
"""

from __future__ import annotations


from dataclasses import dataclass

from triptych.models.shape import ModelShape

__all__ = ["TrainingBytes", "training_bytes"]

ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class TrainingBytes:
    """Bytes at the peak of an optimizer step, by what they are for."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.head

    @property
    def step(self) -> int:
        """What training adds to a loaded model with an adapter on it."""
        return self.gradients + self.optimizer + self.activations + self.head


def training_bytes(shape: ModelShape) -> TrainingBytes:
    """draft"""
    return TrainingBytes(0, 0, 0, 0, 0, 0)
