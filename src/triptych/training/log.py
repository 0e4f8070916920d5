"""`log.jsonl`: a line for each optimizer step, trimmed to the checkpoint that training goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triptych.records.disk import disk_errors
from triptych.records.manifest import claim
from triptych.records.store import write_text


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one step's line."""
    claim(path)
    with disk_errors(path), path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def trim_log(path: Path, *, up_to: int) -> None:
    """Forget logged steps beyond the checkpoint: they are done again. Makes the folder if there is none."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > up_to:
                break
        except (ValueError, KeyError):  # the line a kill cut off
            break
        kept.append(line + "\n")
    claim(path)  # it grows, so its content says nothing of whose it is
    write_text(path, "".join(kept))
