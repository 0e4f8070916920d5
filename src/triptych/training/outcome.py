"""The end of a training: the chosen point's adapter in PEFT's format, and a summary of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from triptych.config.tune import TuneConfig
from triptych.errors import DataError
from triptych.models import Adapter, save_adapter
from triptych.records import CurvePoint, TuneSummary, Versions
from triptych.records.identity import MadeFrom
from triptych.records.store import read_json, write_json
from triptych.training.checkpoint import TrainState, latest_checkpoint, require_training, restore
from triptych.training.curve import best_step
from triptych.training.rows import TuneRows, write_dropped


@dataclass(frozen=True)
class TuneResult:
    """A finished training: the adapter attached and enabled, its curve, what was done."""

    adapter: Adapter
    curve: tuple[CurvePoint, ...]
    summary: TuneSummary


def choose_weights(
    folder: Path,
    curve: Sequence[CurvePoint],
    state: TrainState,
    config: TuneConfig,
    adapter: Adapter,
    optimizer: torch.optim.Optimizer,
    made_from: MadeFrom | None = None,
) -> int:
    """Give the adapter the weights of the selected point; returns its step.

    Raises:
        DataError: the best point's checkpoint is gone.
        RunChangedError: it is of a training that was made from something else.
    """
    if config.select == "last":
        return state.step
    selected = best_step(curve, config.select)
    best = latest_checkpoint(folder / "best", made_from)
    if best is None or best[1].step != selected:
        raise DataError(
            "the best checkpoint is missing",
            where=str(folder / "best"),
            expected=f"step {selected}",
            fix=f"delete {folder}: the same command then trains again, and keeps the cells that need no training",
        )
    restore(best[0], adapter, optimizer)
    return selected


def write_outcome(
    folder: Path,
    rows: TuneRows,
    state: TrainState,
    config: TuneConfig,
    adapter: Adapter,
    *,
    selected: int,
    stopped_early: bool,
    prompt: str,
    facts: dict[str, Any],
    made_from: MadeFrom | None,
    versions: dict[str, str],
    chosen: dict[str, Any],
) -> TuneSummary:
    """Write `adapter/`, `dropped.json` and, last, `summary.json`."""
    save_adapter(adapter, folder / "adapter", facts={**facts, "prompt": prompt, "step": selected})
    write_dropped(folder / "dropped.json", rows.dropped)
    summary = TuneSummary(
        prompt=prompt,
        steps=state.step,
        epochs=state.rows_seen / len(rows.train),
        rows=len(rows.train),
        rows_dropped=len(rows.dropped),
        rows_dropped_ids=rows.dropped.first_ids,
        scored_tokens=state.n_scored,
        tokens=state.n_tokens,
        trainable_parameters=sum(p.numel() for p in adapter.parameters().values()),
        target_modules=adapter.target_modules,
        selected_step=selected,
        selected_by=config.select,
        stopped_early=stopped_early,
        adapter_sha256=adapter.sha256(),
        seconds=state.seconds,
        settings=config.model_dump(mode="json"),
        chosen=chosen,
        identity=made_from.sha256 if made_from else None,
        versions=Versions(**versions),
    )
    made = made_from.record() if made_from else {}
    write_json(folder / "summary.json", {**summary.model_dump(mode="json"), **made})
    return summary


def read_summary(folder: Path, made_from: MadeFrom | None = None) -> TuneSummary | None:
    """What a finished training left, or None.

    Raises:
        RunChangedError: it was made from something else than `made_from`.
    """
    path = folder / "summary.json"
    if not path.exists():
        return None
    value = read_json(path)
    require_training(value, made_from, path, "this training", folder)
    return TuneSummary.model_validate({key: value[key] for key in value if key != "made_from"})
