"""The grid: which cells and trainings an experiment has, and what each one is called.

zero_shot/default
few_shot/default/k=3/draw=item/seed=1
few_shot/default/k=3/select=bm25/order=nearest-last
qlora/default                                       scored as it was trained
qlora/emotional/trained=default                     the same adapter under another prompt
qlora/default/k=2/draw=item/seed=0/trained_k=2/train_seed=1
few_shot/default/k=3/draw=item/seed=1/budget=64/budget_seed=1    demonstrations come from 64 labelled rows
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from triptych.config.budgets import ALL
from triptych.config.choices import MANY, Draw, Order, Select
from triptych.config.experiment import ExperimentConfig
from triptych.config.strategies import ScoredUnder, SearchConfig, ShownConfig
from triptych.errors import ConfigError
from triptych.prompts.selection import BY_VECTORS, DRAWN, NEAREST, default_order
from triptych.records.schema import Strategy


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the training rows: as many as there are labelled ones."""

    budget: int
    seed: int


def _named(subset: Subset | None) -> list[str]:
    return [f"budget={subset.budget}", f"budget_seed={subset.seed}"] if subset else []


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """One training: with which prompt, with how many demonstrations in it, from which seed."""

    prompt: str
    k: int = 0
    select: Select = "random"
    seed: int = 0
    first: bool = True
    """Of the run: its adapter is the run's `adapter/`."""
    subset: Subset | None = None
    """The rows that it trains on; None for all of train."""

    @property
    def name(self) -> str:
        """Readable and unique, e.g. `default/k=2/train_seed=1`."""
        parts = [self.prompt]
        if self.k:
            parts += [f"k={self.k}", *([f"select={self.select}"] if self.select != "random" else [])]
        return "/".join([*parts, f"train_seed={self.seed}", *_named(self.subset)])


@dataclass(frozen=True, slots=True)
class CellSpec:
    """One strategy at one setting."""

    strategy: Strategy
    prompt: str
    k: int = 0
    seed: int | None = None
    """Of the demonstrations' draw; None where nothing is drawn."""
    draw: Draw | None = None
    select: Select | None = None
    """None without demonstrations."""
    order: Order | None = None
    training: TrainingSpec | None = None
    subset: Subset | None = None
    """The rows from which demonstrations are chosen, and that its training saw; None for all of train."""

    @property
    def name(self) -> str:
        """Readable and unique in the run."""
        parts = [self.strategy, self.prompt]
        if self.k:
            parts.append(f"k={self.k}")
            parts += [f"select={self.select}"] if self.select not in (None, "random") else []
            parts += [f"order={self.order}"] if self.order else []
            parts += [f"draw={self.draw}", f"seed={self.seed}"] if self.seed is not None else []
        if trained := self.training:
            parts += [f"trained={trained.prompt}"] if trained.prompt != self.prompt else []
            parts += [f"trained_k={trained.k}"] if trained.k else []
            parts += [f"train_seed={trained.seed}"] if not trained.first else []
        return "/".join([*parts, *_named(self.subset)])


def cell_as_trained(training: TrainingSpec) -> CellSpec:
    """The cell that shows each row the demonstrations, and the prompt, that the training shows it."""
    cell = CellSpec("qlora", training.prompt, training=training, subset=training.subset)
    if not training.k:
        return cell
    order = default_order(training.select)
    return replace(cell, k=training.k, select=training.select, draw="item", order=order, seed=training.seed)


def needs_vectors(spec: CellSpec | TrainingSpec) -> bool:
    """Whether embeddings choose its demonstrations, so that the model may have to be loaded first."""
    return bool(spec.k) and spec.select in BY_VECTORS


def trainings(config: ExperimentConfig) -> list[TrainingSpec]:
    """All trainings, the first of which, where it is of all rows, is the run's own `adapter/`."""
    qlora = config.strategies.qlora
    if qlora is None:
        return []
    seeds = qlora.seeds or (config.tune.seed,)
    specs = [
        TrainingSpec(qlora.prompt, k, qlora.trained_select if k else "random", seed, first=False, subset=subset)
        for budget in sorted(_budgets(config), key=lambda budget: -(budget or MANY + 1))  # the most rows first
        for k in qlora.trained_k
        for subset, seed in _paired(config, budget, seeds)
    ]
    # the run's adapter is one of all rows, so that a budget that is added later doesn't take its place
    return [replace(specs[0], first=specs[0].subset is None), *specs[1:]]


def grid(config: ExperimentConfig) -> list[CellSpec]:
    """All cells, those of the base model first, then adapter by adapter. A search adds its winner."""
    cells: list[CellSpec] = []
    if zero := config.strategies.zero_shot:
        cells += [CellSpec("zero_shot", prompt) for prompt in zero.prompts]
    if few := config.strategies.few_shot:
        for budget in _budgets(config):
            shown = [cell for prompt in few.prompts for cell in _shown("few_shot", prompt, few)]
            cells += shown if budget is None else _in_subsets(config, budget, shown, few.seeds)
    for training in trainings(config):
        cells += _scored(config, training)
    return list(dict.fromkeys(cells))


def candidates(search: SearchConfig) -> list[CellSpec]:
    """What a search tries."""
    cells: list[CellSpec] = []
    for prompt in search.prompts:
        cells += [CellSpec("zero_shot", prompt)] if 0 in search.k else []
        cells += [cell for cell in _shown("few_shot", prompt, search) if cell.k]
    return list(dict.fromkeys(cells))


def unknown_cell(name: str, names: Collection[str], *, where: str, what: str) -> ConfigError:
    """The error for a cell that isn't among these names; the nearest name is suggested."""
    near = difflib.get_close_matches(name, names, n=1)
    fix = f"did you mean `{near[0]}`?" if near else None
    return ConfigError(what, where=where, found=name, expected=", ".join(names), fix=fix)


def _budgets(config: ExperimentConfig) -> list[int | None]:
    """Numbers of labelled rows, in the order given; None for all of train."""
    return [None if budget == ALL else budget for budget in config.budgets or (ALL,)]


def _paired(config: ExperimentConfig, budget: int | None, seeds: Sequence[int]) -> list[tuple[Subset | None, int]]:
    """The subsets of a budget, each with the seed of draws or trainings that goes with it."""
    if budget is None:
        return [(None, seed) for seed in seeds]
    subsets = [Subset(budget, seed) for seed in config.budget_seeds]
    if config.cross_seeds:
        return [(subset, seed) for subset in subsets for seed in seeds]
    n = max(len(subsets), len(seeds))  # the shorter list begins again
    return [(subsets[i % len(subsets)], seeds[i % len(seeds)]) for i in range(n)]


def _in_subsets(
    config: ExperimentConfig, budget: int, cells: Sequence[CellSpec], seeds: Sequence[int]
) -> Iterator[CellSpec]:
    """Cells with their demonstrations from the subsets of a budget; what is not drawn has one cell a subset."""
    pairs = _paired(config, budget, seeds)
    for cell in cells:
        for subset, seed in pairs:
            if cell.seed in (None, seed):
                yield replace(cell, subset=subset)


def _shown(strategy: Strategy, prompt: str, config: ShownConfig) -> Iterator[CellSpec]:
    for select in config.select:
        if select in DRAWN:
            for draw in config.draw:
                for k in config.k:
                    yield from (CellSpec(strategy, prompt, k, seed, draw, select) for seed in config.seeds)
        else:
            for order in config.order if select in NEAREST else (None,):
                yield from (CellSpec(strategy, prompt, k, select=select, order=order) for k in config.k)


def _scored(config: ExperimentConfig, training: TrainingSpec) -> Iterator[CellSpec]:
    """The cells of one adapter: as it was trained, then the compositions."""
    assert config.strategies.qlora is not None
    own = ScoredUnder(k=(training.k,), select=(training.select,))
    for under in (own, *config.strategies.qlora.score):
        for prompt in under.prompts or (training.prompt,):
            for cell in _shown("qlora", prompt, under):
                bare = cell if cell.k else CellSpec("qlora", prompt)
                yield replace(bare, training=training, subset=training.subset)
