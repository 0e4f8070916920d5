"""The tasks of a run: what any process that has the run's context can compute by itself, and what it gives.

    embed      the rows' embeddings, into the cache, where demonstrations are chosen by them
    train      one training with its learning curve  ─►  its adapter, in the run's folder, and a summary
    score      one cell on the test rows             ─►  its record and rows
    search     prompt and demonstrations on dev rows ─►  a record, and the winner as a cell
    write      the texts of one cell                 ─►  predictions, in the run's folder, and a summary

A task is small and can be pickled; what it works with is in the process already (`RunContext`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from triptych.config.strategies import SearchConfig
from triptych.errors import TriptychError
from triptych.grid.cells import CellSpec, TrainingSpec
from triptych.models import Adapter, save_adapter
from triptych.records import CurvePoint, TuneSummary
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.runner.folder import FinishedCell
from triptych.runner.generation import write_cell
from triptych.runner.scoring import score_cell
from triptych.runner.search import search_on_dev
from triptych.runner.session import RunContext
from triptych.training import TuneRows, World, tune

OnCurve = Callable[[TrainingSpec, Sequence[CurvePoint]], None]
"""Called with a training and its whole curve after each point of it."""
Outcome = None | FinishedCell | TuneSummary | GenerationRecord | tuple[SearchRecord, CellSpec]


class Task(Protocol):
    """One piece of work."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def cost(self) -> float:
        """The larger, the sooner it should begin where several processes work."""

    @property
    def shared(self) -> bool:
        """Whether the ranks of a process group compute it together."""

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> Outcome:
        """Compute it."""


@dataclass(frozen=True, slots=True)
class Embed:
    """Compute the embeddings of all rows: other processes find them in the cache."""

    name: str = "embeddings"
    cost: float = 0.0
    shared: bool = False

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> None:
        """See `Task`."""
        run.rows.demonstrations.embed()


@dataclass(frozen=True, slots=True)
class Train:
    """Train one adapter, or what an earlier process left to do of it."""

    training: TrainingSpec
    shared: bool = True

    @property
    def name(self) -> str:
        """See `Task`."""
        return f"training {self.training.name}"

    @property
    def spec(self) -> TrainingSpec:
        """What it shows its rows."""
        return self.training

    @property
    def cost(self) -> float:
        """The longest, and cells wait for it."""
        return float("inf")

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> TuneSummary:
        """See `Task`."""
        training, session = self.training, run.session
        session.detach()
        loaded, scorer = session.load()
        facts, final = run.facts.adapter(training, loaded.info), run.folder.adapter_of(training)
        result = tune(
            loaded,
            _training_rows(run, training),
            run.config.tune.model_copy(update={"seed": training.seed}),
            run.folder.tune_of(training),
            prompt=training.prompt,
            facts=facts,
            made_from=run.facts.training(training),
            scorer=scorer,
            reporter=run.reporter,
            on_curve=partial(on_curve, training),
            world=world,
        )
        world.on_rank0(partial(save_adapter, result.adapter, final, facts=facts))
        session.set_attached(result.adapter, final)
        return result.summary


@dataclass(frozen=True, slots=True)
class Score:
    """Score one cell."""

    cell: CellSpec
    adapter_sha256: str | None = None
    """Of the adapter that its training made; None for the base model's cells."""
    shared: bool = False

    @property
    def name(self) -> str:
        """See `Task`."""
        return self.cell.name

    @property
    def spec(self) -> CellSpec:
        """What it shows its rows."""
        return self.cell

    @property
    def cost(self) -> float:
        """Rows are the same in all cells; what differs is the number of demonstrations before each."""
        return 1.0 + self.cell.k

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> FinishedCell:
        """See `Task`."""
        return score_cell(run, self.cell, _attached(run, self.cell, self.adapter_sha256))


@dataclass(frozen=True, slots=True)
class Search:
    """Search on dev rows, or continue a search that was interrupted."""

    config: SearchConfig
    cost: float = 1e9
    shared: bool = False
    name: str = "search"

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> tuple[SearchRecord, CellSpec]:
        """See `Task`."""
        run.session.detach()
        return search_on_dev(run, self.config)


@dataclass(frozen=True, slots=True)
class Write:
    """Write the texts of one cell."""

    cell: CellSpec
    adapter_sha256: str | None
    shared: bool = False

    @property
    def name(self) -> str:
        """See `Task`."""
        return f"texts of {self.cell.name}"

    @property
    def cost(self) -> float:
        """Writing takes longer than scoring."""
        return 1000.0 + self.cell.k

    def perform(self, run: RunContext, world: World, on_curve: OnCurve) -> GenerationRecord:
        """See `Task`."""
        return write_cell(run, self.cell, self.adapter_sha256)


def _attached(run: RunContext, cell: CellSpec, adapter_sha256: str | None) -> Adapter | None:
    adapter = run.attach(cell.training)
    if adapter and adapter.sha256() != adapter_sha256:
        raise TriptychError(f"the adapter for cell {cell.name} is not the one that its training made")
    return adapter


def _training_rows(run: RunContext, training: TrainingSpec) -> TuneRows:
    rows = run.rows.training(training)
    if dropped := rows.dropped:
        run.reporter.info(
            f"{len(dropped)} training rows are longer than {dropped.limit} tokens and are left out: "
            f"{', '.join(dropped.ids[:8])}{' …' if len(dropped) > 8 else ''}"
        )
    return rows
