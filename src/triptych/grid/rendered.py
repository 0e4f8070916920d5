"""All rows of an experiment as they are rendered before a model is loaded: what the checks and `preview` look at.

    test rows  ─► a cell
    dev rows   ─► a candidate of the search; a training, as its learning curve scores it
    train rows ─► a training
               └► the same rows as they would be scored, to be compared with the former

Only the tokenizer is needed. Cells whose demonstrations are chosen by embeddings are named and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from triptych.data import Dataset, Row
from triptych.errors import DataError
from triptych.grid.cells import CellSpec, TrainingSpec, candidates, cell_as_trained, grid, needs_vectors, trainings
from triptych.grid.renderer import NO_LIMIT, ContextLimit
from triptych.grid.rows import ExperimentRows
from triptych.models import TokenizerProfile
from triptych.progress import Advance, Reporter, Silent
from triptych.prompts import Rendered, RenderedPrompt, Template

MOST_ROWS = 20_000
"""Of one cell; of more rows, this many are rendered, evenly spaced."""
MOST_WITH_DEMOS = 2000
"""Of training rows with demonstrations, which are long, and each needs its own choice."""
MOST_PAIRS = 500

T = TypeVar("T")
R = TypeVar("R", Rendered, RenderedPrompt)


@dataclass(frozen=True)
class RenderedRows:
    """Rows of one cell or one training."""

    name: str
    """The cell's name, `dev` and the cell's name, or `training NAME`."""
    prompt: str
    rows: tuple[Row, ...]
    """Those that were rendered and fit."""
    rendered: tuple[Rendered, ...]
    n_rows: int
    """Rows there are; `rows` and `too_long` together are fewer where only some were rendered."""
    max_tokens: int
    too_long: tuple[str, ...] = ()
    """Ids of rows beyond `max_tokens` even without demonstrations."""
    training: TrainingSpec | None = None
    """Set for rows to train on."""
    cell: CellSpec | None = None
    """Set for rows to score or to predict."""
    answered: bool = True
    """Whether outputs follow the prompts; False for rows to predict."""

    @property
    def n_seen(self) -> int:
        """Rows that were rendered."""
        return len(self.rows) + len(self.too_long)


@dataclass(frozen=True)
class RenderedExperiment:
    """All that can be rendered before a model is loaded."""

    data: Dataset
    templates: Mapping[str, Template]
    profile: TokenizerProfile
    limit: ContextLimit
    """The longest rendering to score."""
    parts: tuple[RenderedRows, ...]
    pairs: tuple[tuple[Rendered, Rendered], ...] = ()
    """Rows as they are trained on, and as they are scored."""
    trainings: tuple[TrainingSpec, ...] = ()
    left_out: tuple[str, ...] = ()
    """Cells and trainings whose demonstrations only embeddings can choose."""


def render_experiment(rows: ExperimentRows, reporter: Reporter | None = None) -> RenderedExperiment:
    """Render all cells, candidates and trainings.

    Raises:
        ModelError: a prompt has no tokens and the model has no BOS.
    """
    config, data = rows.config, rows.data
    search, every_training = config.strategies.search, trainings(config)
    cells = [cell for cell in grid(config) if not needs_vectors(cell)]
    trained = [training for training in every_training if not needs_vectors(training)]
    tried = [cell for cell in candidates(search) if not needs_vectors(cell)] if search else []
    on_dev = [*map(cell_as_trained, trained), *tried] if data.dev else []
    n_rows = len(cells) * min(len(data.test), MOST_ROWS) + len(on_dev) * min(len(data.dev), MOST_ROWS)
    n_rows += sum(min(len(rows.labelled(training.subset)), _most_of(training)) for training in trained)
    with (reporter or Silent()).task("checking rows", n_rows) as advance:
        parts = [
            *(_cell(rows, cell, cell.name, data.test, advance) for cell in cells),
            *(_cell(rows, cell, f"dev {cell.name}", data.dev, advance) for cell in on_dev),
            *(_training(rows, training, advance) for training in trained),
        ]
    left_out = [cell.name for cell in grid(config) if needs_vectors(cell)]
    left_out += [f"training {training.name}" for training in every_training if needs_vectors(training)]
    return RenderedExperiment(
        data,
        rows.templates,
        rows.profile,
        rows.limit,
        tuple(parts),
        pairs=tuple(pair for training in trained for pair in _pairs(rows, training)),
        trainings=tuple(every_training),
        left_out=tuple(left_out),
    )


def rendered_cell(rows: ExperimentRows, cell: CellSpec, rendered: Sequence[Rendered]) -> RenderedExperiment:
    """One cell alone, with the test rows' renderings that will be scored."""
    test = rows.data.test
    part = RenderedRows(cell.name, cell.prompt, test, tuple(rendered), len(test), rows.limit.tokens, cell=cell)
    return RenderedExperiment(rows.data, rows.templates, rows.profile, rows.limit, (part,))


def spread(values: Sequence[T], most: int) -> list[T]:
    """At most this many of them, evenly spaced, the first included."""
    n = len(values)
    return list(values) if n <= most else [values[i * n // most] for i in range(most)]


def rows_that_fit(
    rows: Sequence[Row],
    one: Callable[[Row, int], R],
    max_tokens: int,
    advance: Advance | None = None,
    *,
    reserve: int = 0,
) -> tuple[tuple[Row, ...], tuple[R, ...], tuple[str, ...]]:
    """Rows that can be rendered, their renderings, and ids of those that are too long even without demonstrations.

    `one` renders a row within a limit of tokens; `reserve` tokens follow what is rendered; `advance` counts each row.

    Raises:
        InputError: a row can't be rendered for another reason than its length.
    """
    fitting: list[tuple[Row, R]] = []
    too_long: list[str] = []
    for row in rows:
        try:
            rendered = one(row, max_tokens)
        except DataError:
            rendered = one(row, NO_LIMIT)  # what is wrong with it other than its length is an error here too
        if len(rendered.ids) + reserve > max_tokens:
            too_long.append(row.id)
        else:
            fitting.append((row, rendered))
        if advance is not None:
            advance(1)
    return tuple(row for row, _ in fitting), tuple(rendered for _, rendered in fitting), tuple(too_long)


def _cell(rows: ExperimentRows, cell: CellSpec, name: str, asked: Sequence[Row], advance: Advance) -> RenderedRows:
    limit = rows.limit.tokens
    fit, rendered, too_long = rows_that_fit(spread(asked, MOST_ROWS), partial(rows.row, cell), limit, advance)
    return RenderedRows(name, cell.prompt, fit, rendered, len(asked), limit, too_long, cell=cell)


def _training(rows: ExperimentRows, training: TrainingSpec, advance: Advance) -> RenderedRows:
    train, limit = rows.labelled(training.subset), rows.training_limit

    def whole(row: Row, _: int) -> Rendered:  # as in training: with all its demonstrations, or left out
        return rows.row(training, row, NO_LIMIT)

    fit, rendered, too_long = rows_that_fit(spread(train, _most_of(training)), whole, limit, advance)
    name = f"training {training.name}"
    return RenderedRows(name, training.prompt, fit, rendered, len(train), limit, too_long, training=training)


def _most_of(training: TrainingSpec) -> int:
    return MOST_WITH_DEMOS if training.k else MOST_ROWS


def _pairs(rows: ExperimentRows, training: TrainingSpec) -> Iterator[tuple[Rendered, Rendered]]:
    """Test and training rows, as the training renders them and as a cell does."""
    cell, limit = cell_as_trained(training), rows.training_limit
    for row in [*spread(rows.data.test, MOST_PAIRS), *spread(rows.labelled(training.subset), MOST_PAIRS)]:
        with suppress(DataError):  # too long for both
            yield rows.row(training, row, limit), rows.row(cell, row, limit)
