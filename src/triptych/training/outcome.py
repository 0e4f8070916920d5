"""The end of a training: the chosen point's adapter in PEFT's format, and a summary of what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import DataError
from triptych.models import Adapter, save_adapter
from triptych.records import CurvePoint, TuneSummary
from triptych.records.identity import MadeFrom
from triptych.records.store import read_json, write_json
from triptych.training.checkpoint import latest_checkpoint, require_training
from triptych.training.curve import Split, best_step
from triptych.training.rows import DroppedRows, write_dropped


@dataclass(frozen=True)
class TuneResult:
    """A finished training: the adapter attached and enabled, its curve, what was done."""

    adapter: Adapter
    curve: tuple[CurvePoint, ...]
    summary: TuneSummary


def best_checkpoint(
    folder: Path, curve: Sequence[CurvePoint], split: Split, made_from: MadeFrom | None
) -> tuple[Path, int]:
    """The checkpoint of the best point on a split, and its step.

    Raises:
        DataError: it is gone.
        RunChangedError: it is of a training that was made from something else.
    """
    selected = best_step(curve, split)
    best = latest_checkpoint(folder / "best", made_from)
    if best is None or best[1].step != selected:
        raise DataError(
            "the best checkpoint is missing",
            where=str(folder / "best"),
            expected=f"step {selected}",
            fix=f"delete {folder}: the same command then trains again, and keeps the cells that need no training",
        )
    return best[0], selected


def write_outcome(
    folder: Path,
    summary: TuneSummary,
    adapter: Adapter,
    dropped: DroppedRows,
    facts: Mapping[str, Any],
    made_from: MadeFrom | None,
) -> TuneSummary:
    """Write `adapter/`, `dropped.json` and, last, `summary.json`."""
    of_adapter = {**facts, "prompt": summary.prompt, "step": summary.selected_step}
    save_adapter(adapter, folder / "adapter", facts=of_adapter)
    write_dropped(folder / "dropped.json", dropped)
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
