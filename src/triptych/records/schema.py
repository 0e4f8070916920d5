"""The shape of everything a run writes, field by field with units.

NLLs are in nats (natural log), perplexities are per token of the model's own tokenizer, `bits_per_char` is comparable
across tokenizers. A number that doesn't exist is None, never a stand-in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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
    """Characters (Unicode code points) of the output, as far as they are scored."""
    n_prompt_tokens: int = 0
    """Tokens before the first scored one, BOS included."""
    n_demos: int = 0
    """Demonstrations shown."""
    n_demos_dropped: int = 0
    """Demonstrations left out because they did not fit the context."""
    demo_ids: tuple[str, ...] = ()
    """Training rows shown, in the order shown."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metric -> its value on this row, beside perplexity; a metric that could not be computed is not there."""
    chosen: str | None = None
    """Of options: the one with the lowest NLL, the model's answer; None where none were scored."""
    option_nll: tuple[float, ...] = ()
    """NLL in nats of each option, its EOS included, in their order."""
    correct: int | None = None
    """Which of the options the reference is, from 0; None where it is none of them."""

    @property
    def ppl(self) -> float:
        """exp(nll_nats / n_tokens): the perplexity of this row (protocol hw3, step 3)."""
        return math.exp(self.nll_nats / self.n_tokens)

    def record(self) -> dict[str, Any]:
        """The row as JSON holds it; what only rows with metrics or options have is there if they have it."""
        line = {**asdict(self), "demo_ids": list(self.demo_ids), "option_nll": list(self.option_nll)}
        for name in () if self.metrics else ("metrics",):
            del line[name]
        for name in ("chosen", "option_nll", "correct") if self.chosen is None else ():
            del line[name]
        return line

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> ItemScore:
        """The row of a record. Raises TypeError where something is missing or unknown."""
        lists = {name: tuple(line[name]) for name in ("demo_ids", "option_nll") if name in line}
        return cls(**{**line, **lists})


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricValue(_Record):
    """A metric over the rows of a cell."""

    value: float
    """Mean of the rows' values."""
    ci_low: float | None = None
    """95 % interval over rows: Wilson's of a share, else of a bootstrap; None where there is none."""
    ci_high: float | None = None
    n: int
    """Rows that have a value."""


class Aggregate(_Record):
    """Four averages of the same rows; `docs/metrics.md` says which tool means which by "perplexity"."""

    ppl_mean: float
    """Arithmetic mean of the rows' perplexities: the study's number."""
    ppl_corpus: float
    """exp(sum of NLL / sum of tokens)."""
    ppl_geometric: float
    """exp(mean of the rows' NLL per token)."""
    bits_per_char: float | None
    """Sum of NLL in bits / characters of the outputs; None where the outputs have no character."""
    n_rows: int
    n_tokens: int
    metrics: dict[str, MetricValue] = {}
    """Other metrics of the same rows, by name."""


class Versions(_Record):
    """Of the libraries and the engine that computed a record; `2.12.0, 2.13.0` where several processes did."""

    triptych: str | None = None
    engine: str | None = None
    """Generation of the scoring engine (`likelihood.cache.ENGINE`)."""
    torch: str | None = None
    transformers: str | None = None
    peft: str | None = None
    bitsandbytes: str | None = None

    def named(self) -> dict[str, str]:
        """Library -> version, of those that are known."""
        return {name: str(version) for name, version in self if version is not None}


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
    select: str | None = None
    """How the demonstrations were chosen (`random`, `same`, `bm25`, ...); None where there are none."""
    order: str | None = None
    """Of demonstrations ranked by similarity: `random`, `nearest-last` or `nearest-first`."""
    demo_similarity_mean: float | None = None
    """Mean over the rows of how close their demonstrations came to the query (Jaccard of character n-grams, 0 to 1)."""
    demo_similarity_max: float | None = None
    """The closest any demonstration came to its query."""
    budget: int | None = None
    """Labelled rows: what demonstrations were chosen from, and the training saw; None for the prompt alone."""
    budget_seed: int | None = None
    """Of the subset that they were; None where they were all of train."""
    training: str | None = None
    """Name of the training whose adapter was on; None means there was none."""
    trained_prompt: str | None = None
    trained_k: int = 0
    """Demonstrations in the training's prompts."""
    train_seed: int | None = None
    """Seed of the training; cells that differ in nothing else are repeats of one recipe."""
    searched: int | None = None
    """How many settings a search chose this one from, on dev rows; None for a setting that was asked for."""
    adapter_sha256: str | None = None
    """Set when the LoRA adapter was on; None means it was off."""
    aggregate: Aggregate
    seconds: float
    """Wall time of scoring this cell. Near zero when the scores were already known."""
    rows_cached: int = 0
    """Rows whose scores were known from before; they took no time."""
    rows_with_demos_dropped: int = 0
    demos_dropped: int = 0
    options_sha256: str | None = None
    """Of the options that were scored, row by row; None where none were."""
    identity: str | None = None
    """SHA-256 over all that decides its numbers (`records.identity`); None in runs made before it was kept."""
    versions: Versions | None = None
    """Of what computed it; None in runs made before they were kept."""


class Averaged(_Record):
    """Mean and standard deviation (n-1 in the denominator) over seeds; `std` is None for one seed."""

    mean: float
    std: float | None
    n: int


class FewShotSummary(_Record):
    """One k over its seeds: the study's "4.96 ± 0.03"."""

    prompt: str
    draw: Literal["item", "seed"] | None
    select: str = "random"
    order: str | None = None
    k: int
    seeds: tuple[int, ...]
    cells: tuple[str, ...]
    ppl_mean: Averaged
    ppl_corpus: Averaged
    ppl_geometric: Averaged
    bits_per_char: Averaged | None
    """None where the outputs have no character."""


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
    """A paired difference `a - b` of the rows' values: of perplexities below zero, of chrF++ above zero, a is better.

    Of perplexities, `a` and `b` are settings, and several seeds enter with each row's mean over them; of chrF++, cells.
    """

    a: str
    b: str
    metric: str
    """`ppl` (perplexity): lower is better. Of all others, by their names in `metrics`, higher is better."""
    difference: float
    ci_low: float
    ci_high: float
    confidence: float
    p_value: float
    p_holm: float
    """Holm-corrected over the run's comparisons of this metric."""
    wins: int
    """Rows on which a is better."""
    ties: int
    losses: int
    n_rows: int
    effect_size: float | None = None
    """Mean of the paired differences in units of their standard deviation (n-1); None where that is zero."""
    method: str
    """How interval and p-value were made, with draws and seed."""


class CurveAt(_Record):
    """A strategy at one number of labelled rows."""

    budget: int
    mean: float
    """Over rows and seeds."""
    ci_low: float
    """95 % interval that holds the chance of the rows and of the subsets."""
    ci_high: float
    seeds: int


class Crossing(_Record):
    """Where two strategies are equally good: with fewer labelled rows a is the better one, with more b."""

    a: str
    b: str
    budget: float | None
    """Labelled rows; None where they don't cross, and `said` is the reason."""
    ci_low: float | None
    """Of the 95 % interval; None where that is open."""
    ci_high: float | None
    said: str | None = None


class Crossover(_Record):
    """By one metric: the strategies over numbers of labelled rows."""

    metric: str
    budgets: tuple[int, ...]
    curves: dict[str, tuple[CurveAt, ...]]
    crossings: tuple[Crossing, ...]


class TuneSummary(_Record):
    """What training did."""

    prompt: str
    steps: int
    epochs: float
    rows: int
    """Distinct training rows used."""
    rows_dropped: int
    """Rows longer than the limit, left out."""
    rows_dropped_ids: tuple[str, ...] = ()
    """The first twenty of them; `tune/dropped.json` has all."""
    scored_tokens: int
    tokens: int
    trainable_parameters: int
    target_modules: tuple[str, ...]
    selected_step: int
    selected_by: Literal["last", "dev", "test"]
    stopped_early: bool = False
    """Whether patience ran out on the dev rows before the last step."""
    adapter_sha256: str
    seconds: float
    settings: dict[str, Any]
    """Hyper-parameters as used: a preset's values and defaults filled in."""
    chosen: dict[str, Any] = {}
    """What was decided when training began: activation checkpointing, ranks, memory in bytes by how weights are held
    and activations kept."""
    name: str | None = None
    """Unique in the run; None in runs of one training made before there were several."""
    k: int = 0
    """Demonstrations in the training prompts."""
    seed: int | None = None
    identity: str | None = None
    """SHA-256 over all that decides its numbers (`records.identity`); None in runs made before it was kept."""
    versions: Versions | None = None
    """Of what computed it; None in runs made before they were kept."""


class Candidate(_Record):
    """One setting that a search tried, and how far it came."""

    cell: str
    rounds: int
    """Rounds it took part in."""
    n_rows: int
    """Dev rows it was scored on."""
    ppl_mean: float
    """On those rows."""
    value: float | None = None
    """Of the metric that decided, on those rows; None where that is perplexity."""


class SearchRecord(_Record):
    """What a search over prompts and demonstrations did on the dev rows."""

    winner: str
    metric: str = "perplexity"
    """By which it was chosen."""
    candidates: tuple[Candidate, ...]
    """All that were tried, the best first."""
    rows_scored: int
    n_dev: int
    seconds: float
    versions: Versions | None = None
    """As in `CellRecord`."""


class GenerationRecord(_Record):
    """What the model wrote in one cell, against the references."""

    cell: str
    n_rows: int
    n_tokens: int
    """Tokens written."""
    stopped_by: dict[str, int]
    """What ended the rows (`eos`, `stop_text`, `length`) -> how many."""
    findings: dict[str, int]
    """What the check of the texts found -> rows."""
    chrf: float
    """chrF++ over the corpus, 0 to 100 (Popovic 2017)."""
    bleu: float
    """BLEU over the corpus, 0 to 100."""
    chrf_signature: str
    bleu_signature: str
    row_chrf: dict[str, float]
    """Row id -> its own chrF++: what paired statistics are made from."""
    row_metrics: dict[str, dict[str, float]] = {}
    """Metric of `metrics` that is of texts -> row id -> its value."""
    metric_errors: dict[str, str] = {}
    """Metric that could not be computed -> why, with the row named."""
    settings: dict[str, Any]
    seconds: float
    versions: Versions | None = None
    """As in `CellRecord`."""


class RunRecord(_Record):
    """`results.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str
    protocol: str = "hw3"
    metrics: tuple[str, ...] = ("perplexity",)
    """What was measured; the answer is given in the first."""
    choices: tuple[str, ...] = ()
    """The options of `accuracy`, where all rows have the same."""
    majority: float | None = None
    """Share of test rows whose reference is the most frequent output of train: what no model at all gets right."""
    cells: tuple[CellRecord, ...]
    few_shot: tuple[FewShotSummary, ...]
    curve: tuple[CurvePoint, ...]
    """Of the first training."""
    further_curves: dict[str, tuple[CurvePoint, ...]] = {}
    """Of the other trainings, by name."""
    comparisons: tuple[Comparison, ...]
    crossover: tuple[Crossover, ...] = ()
    """By each metric, where the run has budgets of labelled rows."""
    tune: TuneSummary | None
    """The first training; None without any."""
    trainings: tuple[TuneSummary, ...] = ()
    """All trainings, the first included."""
    search: SearchRecord | None = None
    generations: tuple[GenerationRecord, ...] = ()
    """What was written in the cells that `generate` asked for."""
    text_comparisons: tuple[Comparison, ...] = ()
    """Paired differences of the rows' chrF++ between those cells (`metric` is `chrf`)."""
    prompts: dict[str, dict[str, Any]]
    """Prompt name -> its texts, source and hash, as used."""
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
