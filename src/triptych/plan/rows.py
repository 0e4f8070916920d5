"""What an experiment will render: the rows of every cell, search round, training and curve, with the real tokenizer.

They come from `grid.rows`, as in the run. One thing is not known without the model: which rows `select: embedding` and
`mmr` choose when vectors are the model's own. `bm25` chooses in their place, and the cell says that its tokens are not
exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec, TrainingSpec, candidates, grid, needs_vectors, trainings
from triptych.grid.rows import ExperimentRows
from triptych.plan.tokens import Work, scoring_work, training_work
from triptych.progress import Reporter
from triptych.prompts import Rendered, RenderedOptions
from triptych.runner.search import rounds

_T = TypeVar("_T", CellSpec, TrainingSpec)


@dataclass(frozen=True)
class CellRows:
    """A cell (or a search) and its rows as the model will see them."""

    name: str
    kind: str
    """Cells of one kind cost alike a token: strategy and number of demonstrations."""
    training: TrainingSpec | None
    """Whose adapter it is scored with."""
    rows: list[Rendered]
    work: Work
    exact: bool
    demos_dropped: int
    options: list[RenderedOptions] | None = None
    """The rows with their options, where those are scored."""

    @property
    def with_adapter(self) -> bool:
        """Whether it waits for a training."""
        return self.training is not None


@dataclass(frozen=True)
class TrainingRows:
    """A training, its rows, and the rows of a point of its curve."""

    spec: TrainingSpec
    train: list[Rendered]
    too_long: int
    steps: int
    points: int
    rows_per_point: int
    """Test and dev rows of a point."""
    work: Work
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


def gather(rows: ExperimentRows, reporter: Reporter) -> Gathered:
    """Render all that the experiment's grid asks for.

    Raises:
        InputError: anything in the data that a run would refuse before it begins.
    """
    specs = grid(rows.config)
    cells: list[CellRows] = []
    with reporter.task("rendering cells", len(specs), unit="cells") as advance:
        for spec in specs:
            cells.append(_cell(rows, spec))
            advance(1)
    cells += _search(rows)
    return Gathered(rows.data, cells, [_training(rows, spec) for spec in trainings(rows.config)], rows.limit.tokens)


def _cell(rows: ExperimentRows, spec: CellSpec, on: tuple[Row, ...] | None = None) -> CellRows:
    """A cell on the test rows, or on the dev rows that are given."""
    exact, setting = _without_vectors(spec)
    cell = rows.cell(setting, on)
    rendered = cell.rows
    return CellRows(
        name=spec.name,
        kind=f"{spec.strategy} k={spec.k}" if spec.k else spec.strategy,
        training=spec.training,
        rows=rendered,
        work=scoring_work(rendered, cell.options),
        exact=exact,
        demos_dropped=sum(row.n_demos_dropped for row in rendered),
        options=cell.options,
    )


def _search(rows: ExperimentRows) -> list[CellRows]:
    """Each round of the search, were the candidates to win in the order they are written, and then the winner."""
    search = rows.config.strategies.search
    if search is None:
        return []
    tried, dev = candidates(search), rows.data.dev
    parts: list[CellRows] = []
    before = 0
    for number, (alive, n_rows) in enumerate(rounds(len(tried), len(dev), search.start_rows), start=1):
        for spec in tried[:alive]:
            whole = _cell(rows, spec, dev[:n_rows])
            new, options = whole.rows[before:], whole.options and whole.options[before:]
            name, exact = f"search/round={number}/{spec.name}", whole.exact and number == 1
            work = scoring_work(new, options)
            parts.append(replace(whole, name=name, rows=new, options=options, work=work, exact=exact))
        before = n_rows
    winner = _cell(rows, max(tried, key=lambda spec: spec.k))
    return [*parts, replace(winner, name="search/winner on test (at most)", exact=False)]


def _training(rows: ExperimentRows, spec: TrainingSpec) -> TrainingRows:
    """A training and its curve."""
    tune = rows.config.tune.model_copy(update={"seed": spec.seed})
    exact, setting = _without_vectors(spec)
    rendered = rows.training(setting)
    train, test, dev = list(rendered.train), rendered.test[: tune.eval_rows], rendered.dev
    of_test = rendered.test_options and rendered.test_options[: tune.eval_rows]
    steps = tune.total_steps(len(train)) if train else 0
    points = len(tune.eval_steps(steps)) if train else 0
    return TrainingRows(
        spec=spec,
        train=train,
        too_long=len(rendered.dropped),
        steps=steps,
        points=points,
        rows_per_point=len(test) + len(dev),
        work=training_work(train, tune),
        curve_work=(scoring_work(test, of_test) + scoring_work(dev, rendered.dev_options)).times(points),
        exact=exact,
    )


def _without_vectors(spec: _T) -> tuple[bool, _T]:
    """Whether its demonstrations can be chosen without the model, and the setting by which they are chosen here."""
    return (False, replace(spec, select="bm25")) if needs_vectors(spec) else (True, spec)
