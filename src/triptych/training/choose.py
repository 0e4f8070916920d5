"""Whether a training computes activations again in the backward: by what fits into memory. No result depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from triptych.config.tune import TuneConfig
from triptych.errors import ConfigError, ModelError
from triptych.likelihood.attention import attention_path
from triptych.models import LoadedModel
from triptych.models.device import free_memory
from triptych.models.quantize import computes_in_int8
from triptych.models.shape import shape_of
from triptych.prompts import Rendered
from triptych.training.memory import Held, TrainingBytes, largest_pass, training_bytes
from triptych.training.recompute import decoder_blocks

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
    now = _held(loaded)
    ways: tuple[Held, ...] = ("dequantized", "packed") if now in ("dequantized", "packed") else (now,)
    return {
        (held, recompute): training_bytes(
            shape,
            size,
            r=config.r,
            target_modules=targets,
            dtype=str(loaded.dtype).removeprefix("torch."),
            held=held,
            recompute=recompute,
            dropout=config.dropout > 0,
            use_dora=config.use_dora,
            device=loaded.device.type,
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
