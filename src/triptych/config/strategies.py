"""The section `strategies` of an experiment: which cells there are.

zero_shot   a cell for each prompt
few_shot    a cell for each prompt x select x k x (draw x seed, where demonstrations are drawn)
qlora       a training for each trained_k x seed; each scored as it was trained, and under each of `score`
search      prompt and demonstrations chosen on dev rows; the winner is scored once on test
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from triptych.prompts import Draw
from triptych.prompts.selection import Order, Select
from triptych.training.config import LARGEST_SEED

__all__ = [
    "DemosConfig",
    "FewShotConfig",
    "QloraConfig",
    "ScoredUnder",
    "SearchConfig",
    "Section",
    "ShownConfig",
    "StrategiesConfig",
    "ZeroShotConfig",
]


class Section(BaseModel):
    """A part of the YAML: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _listed(value: Any) -> Any:
    """One value is a list of one."""
    return [value] if isinstance(value, str | int | float) else value


def _listed_seeds(value: Any) -> Any:
    """A bare number is refused: it may be one seed, or how many."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        raise ValueError(f"a list: `seeds: [{value}]` for one training or draw, `seeds: [0, 1, 2]` for three")
    return value


def _sound_seeds(value: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if any(not 0 <= seed <= LARGEST_SEED for seed in value or ()):
        raise ValueError(f"numbers from 0 to {LARGEST_SEED}")
    return value


def _distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) < len(value):
        raise ValueError("each value once")
    if not value:
        raise ValueError("at least one value")
    return value


class ZeroShotConfig(Section):
    """A cell for each prompt."""

    prompts: tuple[str, ...] = ("default", "emotional")

    _lists = field_validator("prompts", mode="before")(_listed)
    _once_each = field_validator("prompts")(_distinct)


class DemosConfig(Section):
    """How demonstrations are chosen, wherever the experiment shows any."""

    column: str | None = None
    """`select: same` shows rows that have the query's value in this column (of the file, or of `data.derive`)."""
    max_similarity: float | None = Field(None, gt=0, le=1)
    """Rows nearer to the query than this are not shown (Jaccard similarity of character n-grams); null shows all."""
    mmr_lambda: float = Field(0.5, ge=0, le=1)
    """`select: mmr`: 1 is similarity to the query alone, 0 diversity alone."""
    embedding: str = "model"
    """`select: embedding` and `mmr`: `model` for the model's own mean hidden state, or a sentence-transformers model by
    name or path."""


class ShownConfig(Section):
    """Which demonstrations are shown, in how many cells."""

    k: tuple[int, ...] = (1, 2, 3, 10)
    """Demonstrations shown."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the draws; what is ranked and not drawn has one cell."""
    draw: tuple[Draw, ...] = ("item",)
    select: tuple[Select, ...] = ("random",)
    order: tuple[Order, ...] = ("nearest-last",)
    """Of the demonstrations that were ranked by similarity."""

    _lists = field_validator("k", "draw", "select", "order", mode="before")(_listed)
    _seeds = field_validator("seeds", mode="before")(_listed_seeds)
    _seeds_sound = field_validator("seeds")(_sound_seeds)
    _once = field_validator("k", "seeds", "draw", "select", "order")(_distinct)


class FewShotConfig(ShownConfig):
    """Cells with demonstrations in the prompt."""

    prompts: tuple[str, ...] = ("default",)
    """`prompt: NAME` is the same as one of them."""

    @model_validator(mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, dict) and "prompt" in value:
            if "prompts" in value:
                raise ValueError("`prompt` and `prompts` say the same: give one of them")
            return {**{k: v for k, v in value.items() if k != "prompt"}, "prompts": value["prompt"]}
        return value

    _list = field_validator("prompts", mode="before")(_listed)
    _once_each = field_validator("prompts")(_distinct)

    @field_validator("k")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in value):
            raise ValueError("1 or more; no demonstrations at all is the zero_shot strategy")
        return value


class ScoredUnder(ShownConfig):
    """Further prompts and demonstrations under which a trained adapter is scored."""

    prompts: tuple[str, ...] = ()
    """None: the prompt it was trained with."""
    k: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)

    _list = field_validator("prompts", mode="before")(_listed)

    @field_validator("k")
    @classmethod
    def _not_negative(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 0 for k in value):
            raise ValueError("0 or more")
        return value


class QloraConfig(Section):
    """Trainings, each scored on the test rows with its adapter on."""

    prompt: str = "default"
    """Trained with, and scored with."""
    seeds: tuple[int, ...] | None = None
    """A training for each; null for one, of `tune.seed`. With several the spread over trainings is shown."""
    trained_k: tuple[int, ...] = (0,)
    """A training for each number of demonstrations in the training prompts."""
    trained_select: Select = "random"
    """How those are chosen, from the other training rows."""
    score: tuple[ScoredUnder, ...] = ()
    """Compositions: also score each adapter under these prompts and demonstrations."""

    _lists = field_validator("trained_k", mode="before")(_listed)
    _seeds = field_validator("seeds", mode="before")(_listed_seeds)
    _seeds_sound = field_validator("seeds")(_sound_seeds)

    @field_validator("seeds", "trained_k")
    @classmethod
    def _sound(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if any(number < 0 for number in value):
            raise ValueError("0 or more")
        return _distinct(value)


class SearchConfig(ShownConfig):
    """Choose prompt and demonstrations on dev rows by successive halving (Jamieson & Talwalkar 2016), then score the
    winner once on test. Needs `data.dev_rows`.
    """

    prompts: tuple[str, ...] = ("default", "emotional")
    k: tuple[int, ...] = (0, 1, 3)
    seeds: tuple[int, ...] = (0,)
    start_rows: int = Field(16, ge=2)
    """Dev rows of the first round; each further round has twice as many and half of the candidates."""

    _list = field_validator("prompts", mode="before")(_listed)
    _once_each = field_validator("prompts")(_distinct)


class StrategiesConfig(Section):
    """The grid. Leave a strategy out, or set it to null, to not run it."""

    zero_shot: ZeroShotConfig | None = None
    few_shot: FewShotConfig | None = None
    qlora: QloraConfig | None = None
    search: SearchConfig | None = None
    demos: DemosConfig = DemosConfig()

    @model_validator(mode="before")
    @classmethod
    def _bare_is_default(cls, value: Any) -> Any:
        """`zero_shot: {}` and `zero_shot: true` both mean its defaults, `false` means no."""
        if not isinstance(value, dict):
            return value
        return {key: {} if item is True else None if item is False else item for key, item in value.items()}

    @model_validator(mode="after")
    def _something(self) -> StrategiesConfig:
        if not any((self.zero_shot, self.few_shot, self.qlora, self.search)):
            raise ValueError("at least one of zero_shot, few_shot, qlora and search")
        return self
