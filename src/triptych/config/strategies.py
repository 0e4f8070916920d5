"""The section `strategies` of an experiment: which cells there are.

zero_shot   a cell for each prompt
few_shot    a cell for each prompt x select x k x (draw x seed, where demonstrations are drawn)
qlora       a training for each trained_k x seed; each scored as it was trained, and under each of `score`
search      prompt and demonstrations chosen on dev rows; the winner is scored once on test
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from triptych.config.choices import LARGEST_SEED, Draw, Order, Select
from triptych.config.section import Section, refused

T = TypeVar("T")

_MOST_CELLS = 100_000
_LONGEST_NAME = 100
"""Bytes of a prompt's name."""


def _check_name(value: str) -> str:
    if (length := len(value.encode())) > _LONGEST_NAME:
        raise ValueError(f"at most {_LONGEST_NAME} bytes, and these are {length}: it stands in cells' names and tables")
    return value


PromptName = Annotated[str, AfterValidator(_check_name)]


def _listed(value: Any) -> Any:
    """One value is a list of one."""
    return [value] if isinstance(value, str | int | float) else value


def _listed_seeds(value: Any) -> Any:
    """A bare number is refused: it may be one seed, or how many."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        raise ValueError(f"a list: `seeds: [{value}]` for one training or draw, `seeds: [0, 1, 2]` for three")
    return value


def _must(is_right: Callable[[Any], bool], expected: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not is_right(value):
            raise ValueError(expected)
        return value

    return AfterValidator(check)


# lists in the YAML: one value stands for a list of one, and none stands there twice
Listed = Annotated[
    tuple[T, ...], BeforeValidator(_listed), _must(lambda value: len(set(value)) == len(value), "each value once")
]
OneOrMore = Annotated[Listed[T], _must(bool, "at least one value")]
Ks = Annotated[OneOrMore[int], _must(lambda ks: min(ks) >= 0, "0 or more")]
Seeds = Annotated[
    OneOrMore[int],
    BeforeValidator(_listed_seeds),
    _must(lambda seeds: min(seeds) >= 0 and max(seeds) <= LARGEST_SEED, f"numbers from 0 to {LARGEST_SEED}"),
]


class ZeroShotConfig(Section):
    """A cell for each prompt."""

    prompts: OneOrMore[PromptName] = ("default", "emotional")
    """Left out: these for a model without chat template on Chinese rows, else such as suit the model and the rows."""


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

    k: Ks = (1, 2, 3, 10)
    """Demonstrations shown."""
    seeds: Seeds = (0, 1, 2)
    """Of the draws; what is ranked and not drawn has one cell."""
    draw: OneOrMore[Draw] = ("item",)
    select: OneOrMore[Select] = ("random",)
    order: OneOrMore[Order] = ("nearest-last",)
    """Of the demonstrations that were ranked by similarity."""

    def cells_of_a_prompt(self) -> int:
        """A bound on their number, without making them."""
        drawn, ranked = len(self.draw) * len(self.seeds), len(self.order)
        return len(self.select) * len(self.k) * max(drawn, ranked)


class FewShotConfig(ShownConfig):
    """Cells with demonstrations in the prompt."""

    prompts: OneOrMore[PromptName] = ("default",)
    """`prompt: NAME` is the same as one of them. Left out: as for `zero_shot`; `multiturn` for a model with a chat
    template."""

    @model_validator(mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, dict) and "prompt" in value:
            if "prompts" in value:
                raise ValueError("`prompt` and `prompts` say the same: give one of them")
            return {**{k: v for k, v in value.items() if k != "prompt"}, "prompts": value["prompt"]}
        return value

    @field_validator("k")
    @classmethod
    def _check_k(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in value):
            raise ValueError("1 or more; no demonstrations at all is the zero_shot strategy")
        return value


class ScoredUnder(ShownConfig):
    """Further prompts and demonstrations under which a trained adapter is scored."""

    prompts: Listed[PromptName] = ()
    """None: the prompt it was trained with."""
    k: Ks = (0,)
    seeds: Seeds = (0,)


class QloraConfig(Section):
    """Trainings, each scored on the test rows with its adapter on."""

    prompt: PromptName = "default"
    """Trained with, and scored with. Left out: as for `zero_shot`, the first."""
    seeds: Seeds | None = None
    """A training for each; null for one, of `tune.seed`. With several the spread over trainings is shown."""
    trained_k: Ks = (0,)
    """A training for each number of demonstrations in the training prompts."""
    trained_select: Select = "random"
    """How those are chosen, from the other training rows."""
    score: tuple[ScoredUnder, ...] = ()
    """Compositions: also score each adapter under these prompts and demonstrations."""


class SearchConfig(ShownConfig):
    """Choose prompt and demonstrations on dev rows by successive halving (Jamieson & Talwalkar 2016), then score the
    winner once on test. Needs `data.dev_rows`.
    """

    prompts: OneOrMore[PromptName] = ("default", "emotional")
    k: Ks = (0, 1, 3)
    seeds: Seeds = (0,)
    start_rows: int = Field(16, ge=2)
    """Dev rows of the first round; each further round has twice as many and half of the candidates."""


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
    def _require_strategy(self) -> StrategiesConfig:
        if not any((self.zero_shot, self.few_shot, self.qlora, self.search)):
            raise ValueError("at least one of zero_shot, few_shot, qlora and search")
        return self

    @model_validator(mode="after")
    def _check_size(self) -> StrategiesConfig:
        """The numbers of prompts, k, seeds, draws, selections and orders are multiplied."""
        zero, few, qlora, search = self.zero_shot, self.few_shot, self.qlora, self.search
        most = len(zero.prompts) if zero else 0
        most += len(few.prompts) * few.cells_of_a_prompt() if few else 0
        most += len(search.prompts) * (1 + search.cells_of_a_prompt()) if search else 0
        if qlora:
            scored = sum(max(1, len(under.prompts)) * under.cells_of_a_prompt() for under in qlora.score)
            most += len(qlora.trained_k) * len(qlora.seeds or (0,)) * (1 + scored)
        if most > _MOST_CELLS:
            raise ValueError(f"at most {_MOST_CELLS:,} cells, and these are up to {most:,}: no run is as large as that")
        return self

    @model_validator(mode="after")
    def _check_column(self) -> StrategiesConfig:
        for key, ks, selects in self.shown():
            if "same" in selects and max(ks) and self.demos.column is None:
                expected = "a column in `strategies.demos.column` whose value query and demonstration share"
                raise refused(f"{key}select", "same", expected)
        return self

    def shown(self) -> Iterator[tuple[str, tuple[int, ...], tuple[Select, ...]]]:
        """(what the keys begin with, k, select) of everything that shows demonstrations."""
        for name, section in (("few_shot", self.few_shot), ("search", self.search)):
            if section:
                yield f"{name}.", section.k, section.select
        if self.qlora:
            yield "qlora.trained_", self.qlora.trained_k, (self.qlora.trained_select,)
            for number, under in enumerate(self.qlora.score):
                yield f"qlora.score.{number}.", under.k, under.select
