"""An experiment's settings: one YAML with a section for each of model, data, strategies, tune, generate and report, and
a few keys beside them.

Defaults < file < `--set`. Unknown keys are refused. Paths in the file are relative to the file, paths given with
`--set` to where the command runs.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from triptych.config.budgets import Budgets
from triptych.config.choices import MANY, MAX_TOKENS
from triptych.config.data import DataConfig
from triptych.config.generate import GenerateConfig
from triptych.config.metrics import Metrics, needs_texts
from triptych.config.model import ModelConfig
from triptych.config.section import Section, refused
from triptych.config.strategies import FewShotConfig, PromptName, QloraConfig, Seeds, StrategiesConfig, ZeroShotConfig
from triptych.config.tune import TuneConfig
from triptych.config.within import seconds_of


class ReportConfig(Section):
    """What the report shows, and where else it goes. None of it decides a number."""

    slices: tuple[str, ...] | None = None
    """Further columns of the data by which the test rows are cut; null for every column with 2 to 12 values."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Trackers that get the run's numbers while it runs, each an extra to install."""


class ExperimentConfig(Section):
    """One model, one data set, a grid of cells."""

    name: str = Field("experiment", pattern=r"^[\w][\w.\-]*$")
    """Names the run's folder: letters, digits, `_`, `-` and `.`"""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    prompts: dict[PromptName, str | dict[str, Any]] = Field({})
    """Templates of your own, by name: a text with {instruction}, a file, or the keys of a template file."""
    max_tokens: int = Field(MAX_TOKENS, ge=16, le=MANY)
    """Longest rendering; demonstrations that don't fit are dropped whole and counted."""
    metrics: Metrics = ("perplexity",)
    """What is measured in every cell; the answer is given in the first: perplexity, accuracy (of the options in
    `data.choices`), exact_match, f1, rouge_l, chrf, bleu, number, json (of texts), or MODULE:FUNCTION."""
    cache: bool = True
    """Look up scores of the same tokens under the same weights before computing them."""
    strategies: StrategiesConfig = StrategiesConfig(
        zero_shot=ZeroShotConfig(), few_shot=FewShotConfig(), qlora=QloraConfig()
    )
    budgets: Budgets | None = None
    """How many labelled rows there may be, such as [16, 64, 256, all]: demonstrations are chosen from, and trainings
    see, random subsets of train of these sizes, a larger one of a seed holding the smaller. Null for all rows alone."""
    budget_seeds: Seeds = (0, 1, 2)
    """Of the subsets; the seeds of demonstrations and trainings go with them in pairs."""
    cross_seeds: bool = False
    """Every seed of demonstrations and trainings with every subset, not in pairs."""
    tune: TuneConfig = TuneConfig()
    generate: GenerateConfig | None = None
    """Write texts too; null scores only."""
    report: ReportConfig = ReportConfig()
    within: str | None = None
    """How long the run may take, such as 10m: test rows, training rows and points of the curve are as many as fit."""

    @model_validator(mode="before")
    @classmethod
    def _write_what_metrics_need(cls, value: Any) -> Any:
        """Metrics of texts have texts written in all cells, unless `generate.cells` says in which."""
        if not isinstance(value, dict) or not needs_texts(_names(value.get("metrics"))):
            return value
        if "generate" in value and value["generate"] is None:
            raise refused("generate", None, "no `generate: null` beside metrics of texts, which have to be written")
        written = value.get("generate", {})
        if isinstance(written, GenerateConfig) and "cells" not in written.model_fields_set:
            written = written.model_copy(update={"cells": "all"})
        return {**value, "generate": {"cells": "all", **written} if isinstance(written, dict) else written}

    @field_validator("within", mode="before")
    @classmethod
    def _check_time(cls, value: Any) -> Any:
        if value is not None:
            seconds_of(str(value))
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _check_within(self) -> ExperimentConfig:
        if self.within and self.budgets:
            raise refused(
                "within", self.within, "no `within` beside `budgets`, which say how many training rows there are"
            )
        return self

    @model_validator(mode="after")
    def _check_dev_rows(self) -> ExperimentConfig:
        if self.data.dev_rows == 0:
            if self.strategies.qlora and self.tune.select == "dev":
                raise refused(
                    "tune.select", "dev", "`data.dev_rows` of a few hundred, to choose on dev rows; or `select: last`"
                )
            if self.strategies.search:
                raise refused("data.dev_rows", 0, "a few hundred dev rows, for `strategies.search` to choose on")
        return self


def _names(metrics: Any) -> list[str]:
    """The metrics that a file names, before anything is checked."""
    listed = metrics if isinstance(metrics, list | tuple) else [metrics]
    return [name for name in listed if isinstance(name, str)]
