"""Activation checkpointing: keep each decoder block's input only, and compute the block again in the backward.

`choose` decides whether, by what fits into memory; no result depends on it.

The blocks' attention computes between the rows of the pass that is installed (`likelihood.context`). The pass is over
when the backward begins, so it is installed again for each block that is computed again; random numbers (dropout) are
those of the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from triptych.config.tune import TuneConfig
from triptych.errors import ConfigError, ModelError
from triptych.likelihood.attention import attention_path
from triptych.likelihood.context import resumable
from triptych.models import LoadedModel
from triptych.models.device import free_memory
from triptych.models.quantize import computes_in_int8
from triptych.models.shape import shape_of
from triptych.prompts import Rendered
from triptych.training.memory import Held, TrainingBytes, bytes_of_training, largest_pass

_ROOM = 1.25


@dataclass(frozen=True)
class Chosen:
    """What was decided, and why."""

    recompute: bool
    """Whether activations are computed again in the backward."""
    facts: dict[str, Any]
    """For the records: the decision, why, and the memory of each way, in bytes."""
    note: str | None = None
    """For the user, where memory is short."""


def fits_with_room(needed: int, free: int) -> bool:
    """Whether a training that is estimated to need `needed` bytes surely fits: the estimate is good to a fifth."""
    return needed * _ROOM < free


def choose(
    loaded: LoadedModel, rows: Sequence[Rendered], config: TuneConfig, targets: tuple[str, ...], ranks: int
) -> Chosen:
    """Decide on activation checkpointing.

    Raises:
        ConfigError: it is asked for, and the model's decoder blocks can't be found.
    """
    can = bool(decoder_blocks(loaded.model))
    if config.activation_checkpointing == "on" and not can:
        raise ConfigError(
            "this model's decoder blocks can't be found, so their activations can't be computed again",
            where="tune.activation_checkpointing",
            found=type(loaded.model).__name__,
            fix="use `off` or `auto`, and a lower tokens_per_pass to save memory",
        )
    try:
        estimates = _estimates(loaded, rows, config, targets, ranks)
    except ModelError:  # sizes that can't be read off decide nothing
        on = config.activation_checkpointing == "on"
        return Chosen(on, {"activation_checkpointing": _word(on), "reason": "the model's sizes are unknown"})
    now = _held(loaded)
    needed, free = estimates[now, False].step, free_memory(loaded.device)
    fits = fits_with_room(needed, free)
    on = config.activation_checkpointing == "on" or (config.activation_checkpointing == "auto" and not fits and can)
    asked = config.activation_checkpointing != "auto"
    reason = "asked for" if asked else "auto: activations fit" if fits else "auto: activations don't fit"
    totals: dict[str, dict[str, int]] = {}
    for (held, recompute), estimate in estimates.items():
        totals.setdefault(held, {})[f"checkpointing_{_word(recompute)}"] = estimate.total
    facts = {
        "activation_checkpointing": _word(on),
        "weights_held": now,
        "memory_bytes": asdict(estimates[now, on]),
        "memory_total_bytes": totals,
        "reason": reason,
    }
    note = (
        f"training needs about {needed / 2**30:.1f} GiB beside the model and {free / 2**30:.1f} GiB are free: "
        f"activation checkpointing is {_word(on)}"
    )
    return Chosen(on, facts, None if fits else note)


def _estimates(
    loaded: LoadedModel, rows: Sequence[Rendered], config: TuneConfig, targets: tuple[str, ...], ranks: int
) -> dict[tuple[Held, bool], TrainingBytes]:
    padded = attention_path(loaded.device.type, loaded.dtype.itemsize) != "varlen"
    shape, size = shape_of(loaded.model.config), largest_pass(rows, config, ranks=ranks, padded=padded)
    now, dtype = _held(loaded), str(loaded.dtype).removeprefix("torch.")
    ways: tuple[Held, ...] = ("dequantized", "packed") if now in ("dequantized", "packed") else (now,)
    return {
        (held, recompute): bytes_of_training(
            shape, size, config, held=held, recompute=recompute, targets=targets, dtype=dtype, device=loaded.device.type
        )
        for held in ways
        for recompute in (False, True)
    }


def _held(loaded: LoadedModel) -> Held:
    if computes_in_int8(loaded.model):
        return "int8"
    held = loaded.info.get("weights_held")
    return held if held in ("dequantized", "packed") else "plain"


def _word(on: bool) -> str:
    return "on" if on else "off"


def decoder_blocks(model: Any) -> list[nn.Module]:
    """The repeated blocks of a transformers model, by the mark that transformers itself puts on them."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def recomputed(model: Any, *, on: bool = True, random: bool = True) -> Iterator[None]:
    """Within this context, gradients are computed with activation checkpointing; not if `on` is False.

    `random`: whether blocks draw random numbers (dropout), which are then drawn again alike.
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
