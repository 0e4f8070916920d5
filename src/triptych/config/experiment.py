"""An experiment's settings: one YAML with the sections model, data, prompts, strategies, tune and report.

The strategies' own settings are in `strategies.py`.

Defaults < file < `--set`. Unknown keys are refused. Paths in the file are relative to the file, paths given with
`--set` to where the command runs.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from triptych.config.strategies import FewShotConfig, QloraConfig, Section, StrategiesConfig, ZeroShotConfig
from triptych.data.derive import check_rules
from triptych.data.layouts import check_columns
from triptych.errors import ConfigError, DataError
from triptych.generate.settings import GenerationSettings
from triptych.models import ModelSpec
from triptych.prompts import MAX_TOKENS
from triptych.training import TuneConfig
from triptych.training.config import LARGEST_SEED

__all__ = ["DataConfig", "ExperimentConfig", "GenerateConfig", "ModelConfig", "ReportConfig"]

_MANY = 10**9
_DEVICE = re.compile(r"auto|cpu|mps|xpu|cuda(:\d{1,3})?")


class ModelConfig(Section):
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
    threads: int | None = Field(None, ge=1, le=4096)
    """CPU threads; null measures."""
    allow_pickle: bool = False
    """Read pickled weights (pytorch_model*.bin) where there are no safetensors. A pickle can run code when read."""

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("auto, cpu, cuda or cuda:N")
        return value

    def spec(self) -> ModelSpec:
        """For `models.load_model`."""
        return ModelSpec(**self.model_dump())


class DataConfig(Section):
    """Which rows."""

    dir: str | None = None
    """Folder of the files, or `sample` for the bundled one."""
    train: str = "train.json"
    test: str = "test.json"
    train_rows: int | None = Field(None, ge=1, le=_MANY)
    """A seeded sample of so many training rows; null for all. Smaller samples are subsets of larger ones."""
    test_rows: int | None = Field(None, ge=1, le=_MANY)
    """The first so many test rows; null for all."""
    dev_rows: int = Field(0, ge=0, le=_MANY)
    """Rows held out of train, to choose a checkpoint or (`strategies.search`) a prompt by."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of the samples above."""
    strict: bool = False
    """Make test rows that occur in train an error instead of a warning."""
    columns: dict[str, str] | None = None
    """Our names (id, instruction, input, output) and the file's, for files whose columns aren't detected."""
    derive: dict[str, dict[str, tuple[str, ...]]] = Field({})
    """Columns made from the instruction: name -> value -> regular expressions, the first that is found decides."""

    @field_validator("derive", mode="before")
    @classmethod
    def _one_expression_is_a_list(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {k: [v] if isinstance(v, str) else v for k, v in rules.items()} if isinstance(rules, dict) else rules
            for name, rules in value.items()
        }

    @field_validator("columns")
    @classmethod
    def _parts_of_rows(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        try:
            check_columns(value or {})
        except DataError as error:
            raise ValueError(_as_expected(error)) from error
        return value

    @field_validator("derive")
    @classmethod
    def _expressions(cls, value: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, dict[str, tuple[str, ...]]]:
        try:
            check_rules(value)
        except DataError as error:
            raise ValueError(_as_expected(error)) from error
        return value


def _as_expected(error: DataError) -> str:
    return "; ".join(filter(None, (error.what, error.where, error.expected, error.fix)))


class GenerateConfig(Section):
    """Texts written in some cells, and their chrF++ and BLEU. Greedy unless told otherwise."""

    cells: Literal["best", "all"] | tuple[str, ...] = "best"
    """`best`: the best prompt, the best demonstrations and each training; or names of cells."""
    rows: int | None = Field(None, ge=1, le=_MANY)
    """The first so many test rows; null for all."""
    max_new_tokens: int = Field(256, ge=1, le=_MANY)
    """Most new tokens of a row."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token; above it, tokens are drawn."""
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=_MANY)
    beams: int = Field(1, ge=1, le=1000)
    no_repeat_ngram: int = Field(0, ge=0, le=_MANY)
    """Never write so many tokens in a row that the row's prompt or output has already; 0 for no rule."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of drawn tokens."""
    stop_texts: bool = True
    """End a row where the prompt's own fixed texts begin again."""

    @model_validator(mode="after")
    def _goes_together(self) -> GenerateConfig:
        """The rules are those of the settings that decoding takes."""
        try:
            self.settings()
        except ConfigError as error:
            key = (error.where or "").replace("--", "").replace("-", "_")
            raise ValueError(" ".join(filter(None, (f"{key}:", error.what, error.expected, error.fix)))) from error
        return self

    def settings(self) -> GenerationSettings:
        """How tokens are chosen, without the stop patterns that a template brings."""
        return GenerationSettings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            beams=self.beams,
            no_repeat_ngram=self.no_repeat_ngram,
            seed=self.seed,
        )


class ReportConfig(Section):
    """What the report shows, and where else it goes. None of it decides a number."""

    slices: tuple[str, ...] | None = None
    """Further columns of the data by which the test rows are cut; null for every column with 2 to 12 values."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Trackers that are told of the run while it goes on, each an extra to install."""


class ExperimentConfig(Section):
    """One model, one data set, a grid of cells."""

    name: str = Field("experiment", pattern=r"^[\w][\w.\-]*$")
    """Names the run's folder: letters, digits, `_`, `-` and `.`"""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompts: dict[str, str | dict[str, Any]] = Field({})
    """Templates of your own, by name: a text with {instruction}, a file, or the keys of a template file."""
    max_tokens: int = Field(MAX_TOKENS, ge=16, le=_MANY)
    """Longest rendering; demonstrations that don't fit are dropped whole and counted."""
    cache: bool = True
    """Look up scores of the same tokens under the same weights before computing them."""
    strategies: StrategiesConfig = StrategiesConfig(
        zero_shot=ZeroShotConfig(), few_shot=FewShotConfig(), qlora=QloraConfig()
    )
    tune: TuneConfig = TuneConfig()
    generate: GenerateConfig | None = None
    """Write texts too; null scores only."""
    report: ReportConfig = ReportConfig()
