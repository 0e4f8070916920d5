"""What is said when training diverges: the step, its rows, what is kept, what to change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triptych.config.tune import TuneConfig
from triptych.errors import DivergedError
from triptych.prompts import Rendered
from triptych.training.checkpoint import latest_checkpoint


def diverged_step(
    folder: Path, config: TuneConfig, step: int, total: int, loss: float, norm: float, rows: Sequence[Rendered]
) -> DivergedError:
    """The gradient of the step after `step` is of no use."""
    names = ", ".join(row.row_id for row in rows[:8]) + (" …" if len(rows) > 8 else "")
    return DivergedError(
        f"training diverged at step {step + 1} of {total}: loss {loss}, gradient norm {norm}\n"
        f"  rows of the step: {names}\n{_what_to_do(folder, config)}"
    )


def diverged_point(
    folder: Path, config: TuneConfig, step: int, total: int, split: str, error: Exception
) -> DivergedError:
    """The weights after `step` give no finite perplexity."""
    return DivergedError(
        f"training diverged: after step {step} of {total} the {split} rows have no finite perplexity\n"
        f"  found: {str(error).splitlines()[0]}\n{_what_to_do(folder, config)}"
    )


def _what_to_do(folder: Path, config: TuneConfig) -> str:
    kept = latest_checkpoint(folder / "checkpoints")
    return (
        f"  kept: {f'checkpoint of step {kept[1].step}' if kept else 'nothing, no checkpoint was due yet'}\n"
        f"  to fix it: lower lr (now {config.lr:g}) or warm up longer (now {config.warmup:g}), "
        "and start over with --fresh or in another folder"
    )
