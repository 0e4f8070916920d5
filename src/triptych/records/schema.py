"""The shape of everything a run writes, field by field with units.

NLLs are in nats (natural log), perplexities are per token of the model's own tokenizer, `bits_per_char` is comparable
across tokenizers. A number that doesn't exist is None, never a stand-in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "SCHEMA_VERSION",
    "Aggregate",
    "Averaged",
    "CellRecord",
    "Comparison",
    "CurvePoint",
    "FewShotSummary",
    "ItemScore",
    "RunRecord",
    "Strategy",
    "TuneSummary",
]

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes; readers refuse what they don't know."""

Strategy = Literal["zero_shot", "few_shot", "qlora"]


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One row scored in one cell."""

    id: str
    nll_nats: float
    """Summed over the scored tokens: the output's and EOS."""
    n_tokens: int
    """Scored tokens."""
    n_chars: int
    """Characters (Unicode code points) of the output."""
    n_prompt_tokens: int = 0
    """Tokens before the first scored one, BOS included."""
    n_demos: int = 0
    """Demonstrations shown."""
    n_demos_dropped: int = 0
    """Demonstrations left out because they did not fit the context."""
    demo_ids: tuple[str, ...] = ()
    """Training rows shown, in the order shown."""

    @property
    def ppl(self) -> float:
        """exp(nll_nats / n_tokens): the perplexity of this row (protocol hw3, step 3)."""
        return math.exp(self.nll_nats / self.n_tokens)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Aggregate(_Record):
    """Four averages of the same rows; `docs/metrics.md` says which tool means which by "perplexity"."""

    ppl_mean: float
    """Arithmetic mean of the rows' perplexities: the study's number."""
    ppl_corpus: float
    """exp(sum of NLL / sum of tokens)."""
    ppl_geometric: float
    """exp(mean of the rows' NLL per token)."""
    bits_per_char: float
    """Sum of NLL in bits / characters of the outputs."""
    n_rows: int
    n_tokens: int


class CellRecord(_Record):
    """One strategy at one setting, scored on the test set."""

    cell: str
    """Readable and unique in the run, e.g. `few_shot/default/k=3/draw=item/seed=1`."""
    strategy: Strategy
    prompt: str
    prompt_sha256: str
    k: int = 0
    seed: int | None = None
    """Seed of the demonstrations' draw; None where there are none."""
    draw: Literal["item", "seed"] | None = None
    adapter_sha256: str | None = None
    """Set when the LoRA adapter was on; None means it was off."""
    aggregate: Aggregate
    seconds: float
    """Wall time of scoring this cell. Near zero when the scores were already known."""
    rows_cached: int = 0
    """Rows whose scores were known from before; they took no time."""
    rows_with_demos_dropped: int = 0
    demos_dropped: int = 0


class Averaged(_Record):
    """Mean and standard deviation (n-1 in the denominator) over seeds; `std` is None for one seed."""

    mean: float
    std: float | None
    n: int


class FewShotSummary(_Record):
    """One k over its seeds: the study's "4.96 ± 0.03"."""

    prompt: str
    draw: Literal["item", "seed"]
    k: int
    seeds: tuple[int, ...]
    cells: tuple[str, ...]
    ppl_mean: Averaged
    ppl_corpus: Averaged
    ppl_geometric: Averaged
    bits_per_char: Averaged


class CurvePoint(_Record):
    """One evaluation during training."""

    step: int
    """Optimizer steps done; 0 is the model before training."""
    epoch: float
    rows_seen: int
    """Training rows seen, repeats counted."""
    split: Literal["test", "dev"]
    aggregate: Aggregate
    train_loss: float | None
    """Mean nats per scored training token since the point before; None at step 0."""
    lr: float
    seconds: float
    """Training wall time so far, evaluation left out."""
    ci_low: float | None = None
    """95 % interval of `ppl_mean` over the rows; None where the rows' perplexities were not kept."""
    ci_high: float | None = None


class Comparison(_Record):
    """A paired difference `a - b` of the rows' perplexities: below zero, a is better.

    Few-shot settings with several seeds enter with each row's mean over the seeds.
    """

    a: str
    b: str
    metric: Literal["ppl"]
    difference: float
    ci_low: float
    ci_high: float
    confidence: float
    p_value: float
    p_holm: float
    """Holm-corrected over the comparisons of the run."""
    wins: int
    """Rows on which a is better."""
    ties: int
    losses: int
    n_rows: int
    effect_size: float | None = None
    """Mean of the paired differences in units of their standard deviation (n-1); None where that is zero."""
    method: str
    """How interval and p-value were made, with draws and seed."""


class TuneSummary(_Record):
    """What training did."""

    prompt: str
    steps: int
    epochs: float
    rows: int
    """Distinct training rows used."""
    rows_dropped: int
    """Rows longer than the limit, left out."""
    scored_tokens: int
    tokens: int
    trainable_parameters: int
    target_modules: tuple[str, ...]
    selected_step: int
    selected_by: Literal["last", "dev", "test"]
    adapter_sha256: str
    seconds: float
    settings: dict[str, Any]


class RunRecord(_Record):
    """`results.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str
    protocol: str = "hw3"
    cells: tuple[CellRecord, ...]
    few_shot: tuple[FewShotSummary, ...]
    curve: tuple[CurvePoint, ...]
    comparisons: tuple[Comparison, ...]
    tune: TuneSummary | None
    prompts: dict[str, dict[str, Any]]
    """Prompt name -> its texts, source and hash, as used."""
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
