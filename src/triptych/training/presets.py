"""Named sets of hyper-parameters. A preset gives defaults; a key that is set wins over it."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["PRESETS", "Preset"]

Preset = Literal["qlora-short", "study"]

PRESETS: dict[Preset, dict[str, Any]] = {
    # a few hundred to a few thousand rows of a hundred tokens or so; rate, schedule and rank were chosen on rows held
    # out of train (docs/results/training.md, `make bench-recipe`)
    "qlora-short": {
        "r": 16,
        "alpha": 16.0,
        "dropout": 0.0,
        "target_modules": "all-linear",
        "epochs": 2.0,
        "lr": 5e-4,
        "schedule": "linear",
        "warmup": 0.03,
        "batch_size": 16,
        "accumulation": 1,
        "weight_decay": 0.0,
    },
    # as published; it names no schedule, so the rate is that of the trainer it used: constant after warm-up
    "study": {
        "r": 64,
        "alpha": 16.0,
        "dropout": 0.0,
        "target_modules": "all-linear",
        "epochs": 3.0,
        "lr": 3e-5,
        "schedule": "constant",
        "warmup": 0.03,
        "batch_size": 4,
        "accumulation": 4,
        "weight_decay": 0.0,
    },
}
