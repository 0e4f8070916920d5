"""The section `tune`: hyper-parameters of a QLoRA training, by the names the field uses."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from triptych.config.choices import LARGEST_SEED, MANY, MAX_TOKENS, LongRows, Preset, Recompute, Schedule, SelectPoint
from triptych.config.section import Section

PRESETS: dict[Preset, dict[str, Any]] = {
    "qlora-short": {},  # the defaults below
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
"""Named defaults; a key that is set wins over its preset."""


class TuneConfig(Section):
    """Defaults are the preset `qlora-short`, for hundreds to thousands of short rows; `study` is the study's own."""

    # rate, schedule and rank: chosen on rows held out of train (docs/results/training.md, `make bench-recipe`)
    preset: Preset | None = None
    """Defaults by name; keys that are set win. What is recorded are the resolved values."""
    r: int = Field(16, ge=1, le=1024)
    """Rank of the adapter."""
    alpha: float = Field(16.0, gt=0, le=1e18)
    """The adapter's output is scaled by alpha / r (with `use_rslora`: alpha / sqrt(r))."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of linear layers (q_proj, v_proj), or `all-linear`."""
    use_rslora: bool = False
    """Rank-stabilized LoRA (Kalajdzievski 2023, arXiv 2312.03732): scale by alpha / sqrt(r)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv 2402.09353): directions and magnitudes learn apart. Slower."""
    lora_plus_ratio: float | None = Field(None, gt=0, le=1000)
    """LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B learns at `lr` times this (the paper: 16); null for the same."""
    epochs: float = Field(2.0, gt=0, le=1000)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, ge=1, le=MANY)
    """Stop after this many optimizer steps, if that is sooner."""
    min_steps: int | None = Field(None, ge=1, le=MANY)
    """Train for at least this many optimizer steps, with as many epochs as that takes: for few rows."""
    lr: float = Field(5e-4, gt=0, le=1)
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Shape of the decay to zero after warm-up."""
    warmup: float = Field(0.03, ge=0, lt=1)
    """Fraction of the steps over which the rate rises to `lr`."""
    batch_size: int = Field(16, ge=1, le=MANY)
    """Most rows of one forward pass."""
    accumulation: int = Field(1, ge=1, le=MANY)
    """Passes of one optimizer step: a step has batch_size x accumulation rows."""
    weight_decay: float = Field(0.0, ge=0, le=1000)
    """AdamW's."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    eps: float = Field(1e-8, gt=0, le=1)
    """AdamW's."""
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null for never."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of the adapter's start, the order of rows and dropout."""
    max_tokens: int = Field(MAX_TOKENS, ge=8, le=MANY)
    """Longest training row; `long_rows` says what becomes of longer ones."""
    long_rows: LongRows = "drop"
    """`drop`: longer rows are left out, counted and listed. `error`: they stop the training before it begins."""
    tokens_per_pass: int = Field(4096, ge=1, le=MANY)
    """Bound on the tokens of one pass; memory, not results, depends on it."""
    activation_checkpointing: Recompute = "auto"
    """Compute each block's activations again in the backward instead of keeping them: less memory, a third more work.
    `auto`: only where the estimate says that they don't fit."""
    eval_every: int | None = Field(None, ge=1, le=MANY)
    """Optimizer steps between points of the learning curve; null for about ten points."""
    eval_rows: int | None = Field(None, ge=1, le=MANY)
    """Score only this many test rows, the first, at each point; null for all."""
    checkpoint_every: int | None = Field(None, ge=1, le=MANY)
    """Optimizer steps between checkpoints; null for as often as the curve, and at least every 50."""
    keep: int = Field(2, ge=1, le=MANY)
    """Checkpoints kept."""
    select: SelectPoint = "last"
    """Which point of the curve gives the final adapter. `test` selects on the rows that are reported, and the report
    says so."""
    patience: int | None = Field(None, ge=1, le=MANY)
    """Stop when this many points in a row on dev are no better than the best one. Needs `select: dev`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, value: Any) -> Any:
        """What the preset says, under what is set."""
        if isinstance(value, dict) and isinstance(value.get("preset"), str) and value["preset"] in PRESETS:
            return {**PRESETS[value["preset"]], **value}
        return value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """From the command line: `--target-modules q_proj,v_proj`."""
        if isinstance(value, str) and value != "all-linear":
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("target_modules")
    @classmethod
    def _check_targets(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not value or (isinstance(value, tuple) and not all(name.strip() for name in value)):
            raise ValueError("names of linear layers, at least one, or `all-linear`")
        return value

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("two numbers, each at least 0 and below 1")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> TuneConfig:
        fastest = self.lr * (self.lora_plus_ratio or 1.0)
        if fastest * self.weight_decay >= 1:
            raise ValueError(
                "lr x weight_decay (with lora_plus_ratio, of the faster part) below 1, or weights change sign"
            )
        if self.patience is not None and self.select != "dev":
            raise ValueError("patience stops by the points on dev rows: it needs `select: dev` (and data.dev_rows)")
        return self

    @field_validator("activation_checkpointing", mode="before")
    @classmethod
    def _read_on_and_off(cls, value: Any) -> Any:
        """YAML reads a bare `on` as true and a bare `off` as false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.batch_size * self.accumulation

    def total_steps(self, n_rows: int) -> int:
        """Optimizer steps over `n_rows` training rows. The last step of an epoch may have fewer rows."""
        per_epoch = math.ceil(n_rows / self.rows_per_step)
        steps = max(1, round(per_epoch * self.epochs), self.min_steps or 1)
        return min(steps, self.max_steps or steps)

    def eval_steps(self, total: int) -> list[int]:
        """Steps after which the curve gets a point: 0, every `eval_every`, and the last."""
        every = self.eval_every or max(1, round(total / 10))
        return sorted({0, *range(every, total, every), total})

    def is_checkpoint(self, step: int, total: int) -> bool:
        """Whether to save after this step."""
        every = self.checkpoint_every or min(self.eval_every or max(1, round(total / 10)), 50)
        return step == total or step % every == 0
