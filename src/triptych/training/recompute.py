"""Activation checkpointing: keep each decoder block's input only, and compute the block again in the backward.

The blocks' attention computes between the rows of the pass that is installed (`likelihood.context`). The pass is over
when the backward begins, so it is installed again for each block that is computed again; random numbers (dropout) are
those of the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from triptych.likelihood.context import resumable


def decoder_blocks(model: Any) -> list[nn.Module]:
    """The repeated blocks of a transformers model, by the mark that transformers itself puts on them."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def recomputed(model: Any, *, on: bool = True, random: bool = True) -> Iterator[None]:
    """Within this context, gradients are computed with activation checkpointing.

    Args:
        model: a transformers model.
        on: False does nothing.
        random: whether blocks draw random numbers (dropout), which then are drawn again alike.
    """
    blocks = decoder_blocks(model) if on else []
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = _checkpointed(model, block.forward, random)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def _checkpointed(model: Any, forward: Callable[..., Any], random: bool) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        resumed = resumable(model)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), resumed()

        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=random, context_fn=contexts, **kwargs)

    return again
