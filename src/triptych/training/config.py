"""Hyper-parameters of a QLoRA training, by the names the field uses."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from triptych.models import LoraSettings
from triptych.prompts import MAX_TOKENS
from triptych.training.presets import PRESETS, Preset
from triptych.training.rows import LongRows

__all__ = ["LARGEST_SEED", "Recompute", "Schedule", "TuneConfig", "learning_rate"]

LARGEST_SEED = 2**63 - 1
"""Of any seed: records hold it as a 64-bit integer, and torch takes no larger one."""
_MANY = 10**9

Schedule = Literal["cosine", "linear", "constant"]
Recompute = Literal["auto", "on", "off"]


class TuneConfig(BaseModel):
    """Defaults are the preset `qlora-short`, for hundreds to thousands of short rows; `study` is the study's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    preset: Preset | None = None
    """Defaults by name; keys that are set win. What is recorded are the resolved values."""
    r: int = Field(16, ge=1, le=1024)
    """Rank of the adapter."""
    alpha: float = Field(16.0, gt=0, le=1e18)
    """The adapter's output is scaled by alpha / r (with `use_rslora`: alpha / sqrt(r))."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the adapter's input."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of linear layers, e.g. [q_proj, v_proj]."""
    use_rslora: bool = False
    """Rank-stabilized LoRA (Kalajdzievski 2023, arXiv 2312.03732): scale by alpha / sqrt(r)."""
    use_dora: bool = False
    """Weight-decomposed LoRA (Liu et al. 2024, arXiv 2402.09353): directions and magnitudes learn apart. Slower."""
    lora_plus_ratio: float | None = Field(None, gt=0, le=1000)
    """LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B learns at `lr` times this (the paper: 16); null for the same."""
    epochs: float = Field(2.0, gt=0, le=1000)
    """Passes over the training rows; a fraction is allowed."""
    max_steps: int | None = Field(None, ge=1, le=_MANY)
    """Stop after this many optimizer steps, if that is sooner."""
    lr: float = Field(5e-4, gt=0, le=1)
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Shape of the decay to zero after warm-up."""
    warmup: float = Field(0.03, ge=0, lt=1)
    """Fraction of the steps over which the rate rises to `lr`."""
    batch_size: int = Field(16, ge=1, le=_MANY)
    """Most rows of one forward pass."""
    accumulation: int = Field(1, ge=1, le=_MANY)
    """Passes of one optimizer step: a step has batch_size x accumulation rows."""
    weight_decay: float = Field(0.0, ge=0, le=1000)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0, le=1)
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null for never."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of the adapter's start, the order of rows and dropout."""
    max_tokens: int = Field(MAX_TOKENS, ge=8, le=_MANY)
    """Longest training row; `long_rows` says what becomes of longer ones."""
    long_rows: LongRows = "drop"
    """`drop`: longer rows are left out, counted and listed. `error`: they stop the training before it begins."""
    tokens_per_pass: int = Field(4096, ge=1, le=_MANY)
    """Bound on the tokens of one pass; memory, not results, depends on it."""
    activation_checkpointing: Recompute = "auto"
    """Compute each block's activations again in the backward instead of keeping them: less memory, a third more work.
    `auto`: only where the estimate says that they don't fit."""
    eval_every: int | None = Field(None, ge=1, le=_MANY)
    """Optimizer steps between points of the learning curve; null for about ten points."""
    eval_rows: int | None = Field(None, ge=1, le=_MANY)
    """Score the first so many test rows at each point; null for all."""
    checkpoint_every: int | None = Field(None, ge=1, le=_MANY)
    """Optimizer steps between checkpoints; null for as often as the curve, and at least every 50."""
    keep: int = Field(2, ge=1, le=_MANY)
    """Checkpoints kept."""
    select: Literal["last", "dev", "test"] = "last"
    """Which point of the curve gives the final adapter. `test` selects on the rows that are reported, and the report
    says so."""
    patience: int | None = Field(None, ge=1, le=_MANY)
    """Stop when so many points in a row on dev are no better than the best one. Needs `select: dev`."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        """What the preset says, under what is set."""
        if isinstance(value, dict) and value.get("preset") in PRESETS:
            return {**PRESETS[value["preset"]], **value}
        return value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """From the command line: `--target-modules q_proj,v_proj`."""
        if isinstance(value, str) and value != "all-linear":
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("target_modules")
    @classmethod
    def _names(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not value or (isinstance(value, tuple) and not all(name.strip() for name in value)):
            raise ValueError("names of linear layers, at least one, or `all-linear`")
        return value

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("two numbers, each at least 0 and below 1")
        return value

    @model_validator(mode="after")
    def _decay_keeps_the_sign(self) -> TuneConfig:
        fastest = self.lr * (self.lora_plus_ratio or 1.0)
        if fastest * self.weight_decay >= 1:
            raise ValueError(
                "lr x weight_decay (with lora_plus_ratio, of the faster part) below 1, or weights change sign"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_its_rows(self) -> TuneConfig:
        if self.patience is not None and self.select != "dev":
            raise ValueError("patience stops by the points on dev rows: it needs `select: dev` (and data.dev_rows)")
        return self

    @field_validator("activation_checkpointing", mode="before")
    @classmethod
    def _yaml_says_on(cls, value: Any) -> Any:
        """YAML reads a bare `on` as true and a bare `off` as false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.batch_size * self.accumulation

    def lora(self) -> LoraSettings:
        """The adapter's size and place."""
        targets = None if self.target_modules == "all-linear" else tuple(self.target_modules)
        return LoraSettings(self.r, self.alpha, self.dropout, targets, self.use_rslora, self.use_dora)

    def total_steps(self, n_rows: int) -> int:
        """Optimizer steps over `n_rows` training rows. The last step of an epoch may have fewer rows."""
        per_epoch = math.ceil(n_rows / self.rows_per_step)
        steps = max(1, round(per_epoch * self.epochs))
        return min(steps, self.max_steps or steps)

    def eval_steps(self, total: int) -> list[int]:
        """Steps after which the curve gets a point: 0, every `eval_every`, and the last."""
        every = self.eval_every or max(1, round(total / 10))
        return sorted({0, *range(every, total, every), total})

    def is_checkpoint(self, step: int, total: int) -> bool:
        """Whether to save after this step."""
        every = self.checkpoint_every or min(self.eval_every or max(1, round(total / 10)), 50)
        return step == total or step % every == 0


def learning_rate(config: TuneConfig, step: int, total: int) -> float:
    """Rate of optimizer step `step` (from 0) of `total`: linear warm-up to `lr`, then the schedule, to zero at the end.

    The same shapes as transformers' schedulers of the same names.
    """
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.lr * step / max(1, warmup) if warmup > 1 else config.lr
    progress = (step - warmup) / max(1, total - warmup)
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr
