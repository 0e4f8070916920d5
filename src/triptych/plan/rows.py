"""What an experiment will render: the rows of every cell, search round, training and curve, with the real tokenizer.

The grid and the rendering are the run's own (`cells`, `showing`), so this can't count other rows than a run computes.
One thing is not known without the model: whom `select: embedding` and `mmr` choose when vectors are the model's own.
For these `bm25` stands in, and the cell says that its tokens are not exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset
from triptych.grid.cells import (
    CellSpec,
    TrainingSpec,
    candidates,
    check_pool,
    demo_pool,
    grid,
    templates_of,
    trainings,
)
from triptych.grid.rendering import BY_VECTORS, Demonstrations, render_cell, render_training
from triptych.grid.views import read_data
from triptych.models import TokenizerProfile
from triptych.plan.tokens import Work, scoring_work, training_work
from triptych.progress import Watcher
from triptych.prompts import Rendered, Template
from triptych.runner.search import rounds
from triptych.training.memory import PassSize, largest_pass
from triptych.training.rows import select_rows

__all__ = ["CellRows", "Gathered", "TrainingRows", "gather"]

_T = TypeVar("_T", CellSpec, TrainingSpec)


@dataclass(frozen=True)
class CellRows:
    """A cell (or a search) and its rows as the model will see them."""

    name: str
    kind: str
    """Cells of one kind cost alike a token: strategy and number of demonstrations."""
    with_adapter: bool
    rows: list[Rendered]
    work: Work
    exact: bool
    demos_dropped: int


@dataclass(frozen=True)
class TrainingRows:
    """A training, its rows, and the rows of a point of its curve."""

    spec: TrainingSpec
    train: list[Rendered]
    too_long: int
    steps: int
    points: int
    curve: list[Rendered]
    """Of one point: test rows, then dev rows."""
    work: Work
    largest: PassSize
    """The pass that takes most memory."""
    curve_work: Work
    """Of all points together."""
    exact: bool


@dataclass(frozen=True)
class Gathered:
    """Everything that will be computed."""

    data: Dataset
    cells: list[CellRows]
    trainings: list[TrainingRows]
    max_tokens: int


def gather(
    config: ExperimentConfig, profile: TokenizerProfile, max_positions: int | None, watcher: Watcher
) -> Gathered:
    """Read the data and render all that the experiment's grid asks for.

    Args:
        config: the experiment.
        profile: the model's tokenizer.
        max_positions: the model's context; None if it doesn't say.
        watcher: told of progress.

    Raises:
        InputError: anything in configuration or data that a run would refuse before it begins.
    """
    templates = templates_of(config)
    data = read_data(config, watcher)
    check_pool(config, data)
    limit = min(config.max_tokens, max_positions or config.max_tokens)
    demonstrations = Demonstrations(demo_pool(data), config.strategies.demos)
    cells = grid(config)
    gatherer = _Gatherer(config, data, templates, demonstrations, profile, limit)
    found: list[CellRows] = []
    with watcher.phase("rendering cells", len(cells), unit="cells") as advance:
        for cell in cells:
            found.append(gatherer.cell(cell))
            advance(1)
    if config.strategies.search:
        found += gatherer.search()
    return Gathered(data, found, [gatherer.training(spec) for spec in trainings(config)], limit)


@dataclass(frozen=True)
class _Gatherer:
    config: ExperimentConfig
    data: Dataset
    templates: Mapping[str, Template]
    demonstrations: Demonstrations
    profile: TokenizerProfile
    limit: int

    def cell(self, cell: CellSpec, *, name: str | None = None, n_dev: int | None = None) -> CellRows:
        """A cell on the test rows, or on the first so many dev rows."""
        rows = self.data.test if n_dev is None else self.data.dev[:n_dev]
        exact, known = _without_vectors(cell)
        rendered = render_cell(
            known, rows, self.demonstrations, self.templates, self.profile, max_tokens=self.limit
        ).rows
        kind = f"{cell.strategy} k={cell.k}" if cell.k else cell.strategy
        dropped = sum(row.n_demos_dropped for row in rendered)
        return CellRows(
            name or cell.name, kind, cell.training is not None, rendered, scoring_work(rendered), exact, dropped
        )

    def search(self) -> list[CellRows]:
        """Each round of the search, were the candidates to win in the order they are written, and then the winner."""
        search = self.config.strategies.search
        assert search is not None
        tried = candidates(search)
        found: list[CellRows] = []
        before = 0
        for number, (alive, n_rows) in enumerate(rounds(len(tried), len(self.data.dev), search.start_rows), start=1):
            for cell in tried[:alive]:
                whole = self.cell(cell, n_dev=n_rows)
                rows = whole.rows[before:]
                found.append(
                    replace(
                        whole,
                        name=f"search/round={number}/{cell.name}",
                        rows=rows,
                        work=scoring_work(rows),
                        exact=whole.exact and number == 1,
                    )
                )
            before = n_rows
        longest = max(tried, key=lambda cell: cell.k)
        winner = self.cell(longest, name="search/winner on test (at most)")
        return [*found, replace(winner, exact=False)]

    def training(self, spec: TrainingSpec) -> TrainingRows:
        """A training and its curve."""
        tune = self.config.tune.model_copy(update={"seed": spec.seed})
        exact, known = _without_vectors(spec)

        def rendered(rows: object, at_most: int) -> list[Rendered]:
            return render_training(
                known,
                rows,  # type: ignore[arg-type]
                self.demonstrations,
                self.templates[spec.prompt],
                self.profile,
                max_tokens=at_most,
            )

        longest = min(self.limit, tune.max_tokens)
        train, dropped = select_rows(rendered(self.data.train, 1 << 30), longest, tune.long_rows)
        test = rendered(self.data.test, self.limit)[: tune.eval_rows]
        dev = rendered(self.data.dev, self.limit)
        steps = tune.total_steps(len(train)) if train else 0
        points = len(tune.eval_steps(steps)) if train else 0
        return TrainingRows(
            spec=spec,
            train=train,
            too_long=len(dropped),
            steps=steps,
            points=points,
            curve=[*test, *dev],
            work=training_work(train, tune),
            largest=largest_pass(train, tune) if train else PassSize(0, 0),
            curve_work=(scoring_work(test) + scoring_work(dev)).times(points),
            exact=exact,
        )


def _without_vectors(spec: _T) -> tuple[bool, _T]:
    """Whether its demonstrations can be chosen without the model, and the setting by which they are chosen here."""
    if spec.select in BY_VECTORS:
        return False, replace(spec, select="bm25")
    return True, spec
