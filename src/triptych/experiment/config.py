"""An experiment's settings: one YAML with the sections model, data, prompts, strategies, tune and report.

Defaults < file < `--set`. Unknown keys are refused. Paths in the file are relative to the file, paths given with
`--set` to where the command runs.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from triptych.models import ModelSpec
from triptych.prompts import MAX_TOKENS, Draw
from triptych.tune import TuneConfig

__all__ = [
    "DataConfig",
    "ExperimentConfig",
    "FewShotConfig",
    "ModelConfig",
    "QloraConfig",
    "StrategiesConfig",
    "ZeroShotConfig",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("at least one value")
    return value


class ModelConfig(_Section):
    """Which model, and how it is held."""

    name: str = "demo"
    """Hub id, folder, `.gguf` file, or `demo`."""
    revision: str | None = None
    """Commit or tag of a hub id."""
    quantize: Literal["nf4", "int8", "none"] = "nf4"
    double_quant: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    hold: Literal["auto", "dequantized", "packed"] = "auto"
    """How NF4 weights are kept: dequantized once (same values, faster) or packed (less memory)."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; null measures."""

    def spec(self) -> ModelSpec:
        """For `models.load_model`."""
        return ModelSpec(**self.model_dump())


class DataConfig(_Section):
    """Which rows."""

    dir: str | None = None
    """Folder of the files, or `sample` for the bundled one."""
    train: str = "train.json"
    test: str = "test.json"
    train_rows: int | None = Field(None, ge=1)
    """A seeded sample of so many training rows; null for all. Smaller samples are subsets of larger ones."""
    test_rows: int | None = Field(None, ge=1)
    """The first so many test rows; null for all."""
    dev_rows: int = Field(0, ge=0)
    """Rows held out of train, to choose a checkpoint by."""
    seed: int = Field(0, ge=0)
    """Of the samples above."""
    strict: bool = False
    """Make test rows that occur in train an error instead of a warning."""


class ZeroShotConfig(_Section):
    """A cell for each prompt."""

    prompts: tuple[str, ...] = ("default", "emotional")

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("prompts")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _not_empty(value)


class FewShotConfig(_Section):
    """A cell for each draw x k x seed."""

    prompt: str = "default"
    k: tuple[int, ...] = (1, 2, 3, 10)
    seeds: tuple[int, ...] = (0, 1, 2)
    draw: tuple[Draw, ...] = ("item",)

    @field_validator("k", "seeds", "draw", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("k")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in value):
            raise ValueError("1 or more; no demonstrations at all is the zero_shot strategy")
        return value

    @field_validator("k", "seeds", "draw")
    @classmethod
    def _distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) < len(value):
            raise ValueError("each value once")
        return _not_empty(value)


class QloraConfig(_Section):
    """One training, scored on the test rows with the adapter on."""

    prompt: str = "default"


class StrategiesConfig(_Section):
    """The grid. Leave a strategy out, or set it to null, to not run it."""

    zero_shot: ZeroShotConfig | None = None
    few_shot: FewShotConfig | None = None
    qlora: QloraConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_is_default(cls, value: Any) -> Any:
        """`zero_shot: {}` and `zero_shot: true` both mean its defaults, `false` means no."""
        if not isinstance(value, dict):
            return value
        return {key: {} if item is True else None if item is False else item for key, item in value.items()}

    @model_validator(mode="after")
    def _something(self) -> StrategiesConfig:
        if self.zero_shot is None and self.few_shot is None and self.qlora is None:
            raise ValueError("at least one of zero_shot, few_shot and qlora")
        return self


class ExperimentConfig(_Section):
    """One model, one data set, a grid of cells."""

    name: str = Field("experiment", pattern=r"^[\w][\w.\-]*$")
    """Names the run's folder: letters, digits, `_`, `-` and `.`"""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompts: dict[str, str | dict[str, Any]] = {}
    """Templates of your own, by name: a text with {instruction}, a file, or the keys of a template file."""
    max_tokens: int = Field(MAX_TOKENS, ge=16)
    """Longest rendering; demonstrations that don't fit are dropped whole and counted."""
    cache: bool = True
    """Look up scores of the same tokens under the same weights before computing them."""
    strategies: StrategiesConfig = StrategiesConfig(
        zero_shot=ZeroShotConfig(), few_shot=FewShotConfig(), qlora=QloraConfig()
    )
    tune: TuneConfig = TuneConfig()
