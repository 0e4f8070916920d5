"""`log.jsonl`, a line for each optimizer step; and the errors of a training that diverged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.config.tune import TuneConfig
from triptych.errors import DivergedError
from triptych.prompts import Rendered
from triptych.records.disk import disk_errors
from triptych.records.manifest import claim
from triptych.records.store import write_text
from triptych.training.checkpoint import latest_checkpoint


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one step's line."""
    claim(path)
    with disk_errors(path), path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def trim_log(path: Path, *, up_to: int) -> None:
    """Remove the lines of steps beyond the checkpoint, which are done again. Makes the folder if there is none."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > up_to:
                break
        except (ValueError, KeyError):  # the line a kill cut off
            break
        lines.append(line + "\n")
    claim(path)  # it grows, so its content says nothing of whose it is
    write_text(path, "".join(lines))


def diverged_step(
    folder: Path, config: TuneConfig, step: int, total: int, loss: float, norm: float, rows: Sequence[Rendered]
) -> DivergedError:
    """Loss or gradient of the step after `step` is not finite."""
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
    saved = latest_checkpoint(folder / "checkpoints")
    return (
        f"  kept: {f'checkpoint of step {saved[1].step}' if saved else 'nothing, no checkpoint was due yet'}\n"
        f"  to fix it: lower lr (now {config.lr:g}) or warm up longer (now {config.warmup:g}), "
        "and start over with --fresh or in another folder"
    )
