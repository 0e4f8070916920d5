"""An experiment's rows as the model will see them, before any model is there: every cell, every training.

    test rows  ─► render_cell      ─► a view per cell
    dev rows   ─► render_cell      ─► a view per setting that is searched, and per training
    train rows ─► render_training  ─► a view per training
               └► render_cell      ─► the same rows by the scoring path, to be held against the former

Needs the tokenizer alone. Demonstrations chosen by the model's own vectors can't be shown without it: those cells are
named and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from triptych.config.choices import Order
from triptych.config.experiment import ExperimentConfig
from triptych.config.sources import SAMPLE, is_there, split_sample
from triptych.data import Dataset, Row, load_dataset
from triptych.errors import DataError
from triptych.grid.cells import (
    NEAREST,
    CellSpec,
    TrainingSpec,
    candidates,
    demo_pool,
    grid,
    needs_train,
    trainings,
)
from triptych.grid.rendering import BY_VECTORS, Demonstrations, render_cell, render_training
from triptych.models import TokenizerProfile
from triptych.models.header import model_config
from triptych.progress import Advance, Silent, Watcher
from triptych.prompts import Rendered, RenderedPrompt, Template

__all__ = [
    "Ceiling",
    "Pair",
    "View",
    "Views",
    "longest_rendering",
    "read_data",
    "rows_that_fit",
    "spread",
    "view_experiment",
]

MOST_ROWS = 20_000
"""Of one view; of more rows, so many are looked at, evenly spaced."""
MOST_WITH_DEMOS = 2000
"""Training rows with demonstrations are long, and each needs its own choice."""
MOST_PAIRS = 500
_NO_LIMIT = 1 << 30

T = TypeVar("T")
R = TypeVar("R", Rendered, RenderedPrompt)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The longest rendering, and what decides it: a setting, or the model's own context."""

    tokens: int
    setting: str = "max_tokens"
    """Where it can be raised, unless the context is as short."""
    context: int | None = None
    """Tokens the model was made for; None if it doesn't say."""
    kept_by: str | None = None
    """The setting that keeps tokens of it for an answer, if any are kept."""

    @classmethod
    def of(cls, setting: str, asked: int, context: int | None, *, kept_by: str | None = None) -> Ceiling:
        """The smaller of what is asked for and what the model can take."""
        known = context if context is not None and context > 0 else None  # XLNet says -1
        return cls(min(asked, known or asked), setting, known, kept_by)

    def how_to_fit(self) -> str:
        """What to do about rows that are longer: what can be raised is named only where raising it helps."""
        ways = ["shorten or remove these rows", *([f"lower {self.kept_by}"] if self.kept_by else [])]
        if self.context is not None and self.tokens >= self.context:
            ways.append(f"use a model with a longer context than {self.context:,} tokens")
        else:
            most = f" (the model takes up to {self.context:,})" if self.context else ""
            ways.append(f"raise {self.setting}{most}")
        return ", or ".join(ways)


@dataclass(frozen=True)
class View:
    """Rows of one cell or one training."""

    name: str
    """The cell's name, `dev` and the cell's name, or `training NAME`."""
    prompt: str
    rows: tuple[Row, ...]
    """Those that were looked at and can be rendered."""
    rendered: tuple[Rendered, ...]
    n_rows: int
    """Rows there are; `rows` and `too_long` together are fewer where only some were looked at."""
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
        """Rows looked at."""
        return len(self.rows) + len(self.too_long)


@dataclass(frozen=True)
class Pair:
    """One row by the path it is trained by and by the path it is scored by."""

    training: str
    trained: Rendered
    scored: Rendered


@dataclass(frozen=True)
class Views:
    """All that can be looked at before a model is loaded."""

    data: Dataset
    templates: Mapping[str, Template]
    profile: TokenizerProfile
    views: tuple[View, ...]
    pairs: tuple[Pair, ...]
    trainings: tuple[TrainingSpec, ...]
    left_out: tuple[str, ...] = ()
    """Cells whose demonstrations only the model can choose."""
    ceiling: Ceiling | None = None
    """The longest rendering to score; None: nothing is known but the views' own `max_tokens`."""


def read_data(config: ExperimentConfig, watcher: Watcher | None = None) -> Dataset:
    """The experiment's rows.

    Args:
        config: says which; train rows are read if some strategy needs them, or if they are there: test rows that occur
            in them are told.
        watcher: is told how each file was read.

    Raises:
        DataError: a file or a row is unusable.
    """
    given = config.data
    train = given.train if needs_train(config) or _train_is_there(config) else None
    return load_dataset(
        train=train,
        test=given.test,
        folder=given.dir,
        train_rows=given.train_rows if train else None,
        test_rows=given.test_rows,
        dev_rows=given.dev_rows if train else 0,
        seed=given.seed,
        strict=given.strict,
        columns=given.columns,
        derive=given.derive,
        watcher=watcher,
    )


def _train_is_there(config: ExperimentConfig) -> bool:
    folder = config.data.dir
    return folder == SAMPLE or is_there(split_sample(Path(folder or ".") / config.data.train)[0])


def longest_rendering(config: ExperimentConfig, profile: TokenizerProfile) -> Ceiling:
    """The experiment's limit, or the model's context where that is shorter.

    Raises:
        ModelError: the model's config.json can't be read.
    """
    found = model_config(profile.tokenizer.name_or_path, config.model.revision).get_text_config()
    return Ceiling.of("max_tokens", config.max_tokens, getattr(found, "max_position_embeddings", None))


def view_experiment(
    config: ExperimentConfig,
    data: Dataset,
    templates: Mapping[str, Template],
    profile: TokenizerProfile,
    *,
    max_tokens: int | Ceiling,
    demonstrations: Demonstrations | None = None,
    watcher: Watcher | None = None,
) -> Views:
    """Render all cells and trainings.

    Args:
        config: the experiment.
        data: its rows.
        templates: every prompt of the grid, by name.
        profile: the model's tokenizer.
        max_tokens: longest rendering: the experiment's limit, or the model's context where that is shorter.
        demonstrations: the run's own, so that what it built to choose them is built once.
        watcher: told of progress.

    Raises:
        ModelError: a prompt has no tokens and the model has no BOS.
    """
    ceiling = max_tokens if isinstance(max_tokens, Ceiling) else Ceiling(max_tokens)
    max_tokens = ceiling.tokens
    shown = demonstrations or Demonstrations(demo_pool(data), config.strategies.demos)
    blind = [cell.name for cell in grid(config) if cell.k and cell.select in BY_VECTORS]
    seen_cells = [cell for cell in grid(config) if cell.name not in blind]
    seen = [t for t in trainings(config) if not (t.k and t.select in BY_VECTORS)]
    blind += [f"training {t.name}" for t in trainings(config) if t not in seen]
    on_dev = [*map(_own_cell, seen), *_searched(config)] if data.dev else []
    longest = min(max_tokens, config.tune.max_tokens)
    n_rows = len(seen_cells) * min(len(data.test), MOST_ROWS) + len(on_dev) * min(len(data.dev), MOST_ROWS)
    n_rows += sum(min(len(data.train), _most_of(t)) for t in seen)
    with (watcher or Silent()).phase("checking rows", n_rows) as advance:
        cells = [_cell(cell, data.test, shown, templates, profile, max_tokens, advance) for cell in seen_cells]
        dev = [_cell(cell, data.dev, shown, templates, profile, max_tokens, advance) for cell in on_dev]
        dev = [replace(view, name=f"dev {view.name}") for view in dev]
        trained = [_training(t, data.train, shown, templates, profile, longest, advance) for t in seen]
    pairs = [pair for t in seen for pair in _pairs(t, data, shown, templates, profile, longest)]
    views = (*cells, *dev, *trained)
    made = tuple(trainings(config))
    return Views(data, templates, profile, views, tuple(pairs), made, tuple(blind), ceiling)


def _searched(config: ExperimentConfig) -> list[CellSpec]:
    search = config.strategies.search
    return [cell for cell in candidates(search) if not (cell.k and cell.select in BY_VECTORS)] if search else []


def spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced, the first included."""
    n = len(values)
    return list(values) if n <= most else [values[i * n // most] for i in range(most)]


def _cell(
    cell: CellSpec,
    rows: Sequence[Row],
    shown: Demonstrations,
    templates: Mapping[str, Template],
    profile: TokenizerProfile,
    max_tokens: int,
    advance: Advance,
) -> View:
    def one(row: Row, limit: int) -> Rendered:
        return render_cell(cell, [row], shown, templates, profile, max_tokens=limit).rows[0]

    kept, rendered, too_long = rows_that_fit(spread(rows, MOST_ROWS), one, max_tokens, advance)
    return View(cell.name, cell.prompt, kept, rendered, len(rows), max_tokens, too_long, cell=cell)


def _training(
    training: TrainingSpec,
    rows: Sequence[Row],
    shown: Demonstrations,
    templates: Mapping[str, Template],
    profile: TokenizerProfile,
    max_tokens: int,
    advance: Advance,
) -> View:
    template = templates[training.prompt]

    def one(row: Row, _: int) -> Rendered:  # as training does: whole, or not at all
        return render_training(training, [row], shown, template, profile, max_tokens=_NO_LIMIT)[0]

    kept, rendered, too_long = rows_that_fit(spread(rows, _most_of(training)), one, max_tokens, advance)
    name = f"training {training.name}"
    return View(name, training.prompt, kept, rendered, len(rows), max_tokens, too_long, training=training)


def _most_of(training: TrainingSpec) -> int:
    return MOST_WITH_DEMOS if training.k else MOST_ROWS


def rows_that_fit(
    rows: Sequence[Row],
    one: Callable[[Row, int], R],
    max_tokens: int,
    advance: Advance | None = None,
    *,
    reserve: int = 0,
) -> tuple[tuple[Row, ...], tuple[R, ...], tuple[str, ...]]:
    """Rows that can be rendered, their renderings, and ids of those that are too long even without demonstrations.

    Args:
        rows: the rows.
        one: renders a row within a limit of tokens.
        max_tokens: the longest rendering.
        advance: told of each row.
        reserve: tokens that follow what is rendered.

    Raises:
        InputError: a row can't be rendered for another reason than its length.
    """
    kept: list[Row] = []
    rendered: list[R] = []
    too_long: list[str] = []
    for row in rows:
        try:
            found = one(row, max_tokens)
        except DataError:
            found = one(row, _NO_LIMIT)  # what is wrong with it other than its length is an error here too
        if len(found.ids) + reserve > max_tokens:
            too_long.append(row.id)
        else:
            kept.append(row)
            rendered.append(found)
        if advance is not None:
            advance(1)
    return tuple(kept), tuple(rendered), tuple(too_long)


def _own_cell(training: TrainingSpec) -> CellSpec:
    """Rows scored as they are trained on, with the same demonstrations where there are any."""
    cell = CellSpec("qlora", training.prompt, training=training)
    if not training.k:
        return cell
    order: Order | None = "nearest-last" if training.select in NEAREST else None
    return replace(cell, k=training.k, select=training.select, draw="item", order=order, seed=training.seed)


def _pairs(
    training: TrainingSpec,
    data: Dataset,
    shown: Demonstrations,
    templates: Mapping[str, Template],
    profile: TokenizerProfile,
    max_tokens: int,
) -> list[Pair]:
    """Test and training rows by both paths."""
    cell = _own_cell(training)
    template = templates[training.prompt]
    pairs = []
    for row in [*spread(data.test, MOST_PAIRS), *spread(data.train, MOST_PAIRS)]:
        try:
            scored = render_cell(cell, [row], shown, templates, profile, max_tokens=max_tokens).rows[0]
            trained = render_training(training, [row], shown, template, profile, max_tokens=max_tokens)[0]
        except DataError:  # too long: seen by neither
            continue
        pairs.append(Pair(training.name, trained, scored))
    return pairs
