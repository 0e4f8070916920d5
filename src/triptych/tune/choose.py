"""What is decided when training begins, by what fits into memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Chosen:
    recompute: bool
    facts: dict[str, Any] = field(default_factory=dict)
    said: str | None = None


def choose(loaded: Any, rows: Any, config: Any, targets: Any, ranks: int) -> Chosen:
    return Chosen(config.activation_checkpointing == "on")
