"""An experiment's rows as the model will see them: the one place that renders a cell, a candidate or a training.

    test rows             ─► cell      ─► a cell of the grid
    dev rows, as needed   ─► cell      ─► a candidate of a search
    test rows             ─► prompts   ─► what a cell's texts are generated from
    train, test, dev rows ─► training  ─► rows to train on and those of its learning curve

The run, its checks, `preview`, `plan` and the search ask it, so that what is checked, shown and counted is what is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec, TrainingSpec, cell_as_trained
from triptych.grid.context_limit import ContextLimit
from triptych.grid.demonstrations import Demonstrations
from triptych.grid.inputs import check_pool, demo_pool, read_data, templates_of
from triptych.models import TokenizerProfile
from triptych.models.header import ModelHeader, read_header
from triptych.progress import Watcher
from triptych.prompts import Rendered, RenderedPrompt, Template, render, render_prompt
from triptych.prompts.ranking import Vectors
from triptych.training import TuneRows, select_rows

__all__ = ["NO_LIMIT", "ExperimentRows", "RenderedCell"]

NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class RenderedCell:
    """A cell's rows, and how close each one's demonstrations came to it."""

    rows: list[Rendered]
    similarity: list[tuple[float, ...]]

    def closest(self) -> float | None:
        """The closest any demonstration came to its query; None without demonstrations."""
        return max((value for row in self.similarity for value in row), default=None)

    def mean_similarity(self) -> float | None:
        """Mean over all demonstrations shown."""
        values = [value for row in self.similarity for value in row]
        return sum(values) / len(values) if values else None


class ExperimentRows:
    """Renders an experiment's rows with its templates, its demonstrations and the model's tokenizer.

    Args:
        config: the experiment.
        data: its rows.
        templates: every prompt of the grid, by name.
        profile: the model's tokenizer.
        limit: the longest rendering to score.
        vectors: gives the embeddings that choose demonstrations; called once, when they are first needed. Without it,
            `embedding` can't choose, and `mmr` ranks by n-grams (`cells.needs_vectors` tells which settings these are).
    """

    def __init__(
        self,
        config: ExperimentConfig,
        data: Dataset,
        templates: Mapping[str, Template],
        profile: TokenizerProfile,
        limit: ContextLimit,
        *,
        vectors: Callable[[], Vectors] | None = None,
    ) -> None:
        self.config, self.data, self.templates, self.profile, self.limit = config, data, templates, profile, limit
        self.training_limit = min(limit.tokens, config.tune.max_tokens)
        """The longest row to train on."""
        self._demonstrations = Demonstrations(demo_pool(data), config.strategies.demos, vectors=vectors)

    @classmethod
    def read(
        cls, config: ExperimentConfig, header: ModelHeader | None = None, watcher: Watcher | None = None
    ) -> ExperimentRows:
        """Read templates, rows and tokenizer. No weights are read.

        Args:
            config: the experiment.
            header: the model's, where it was read already.
            watcher: told how each file was read.

        Raises:
            InputError: settings, data or tokenizer can't be used.
        """
        templates, data = templates_of(config), read_data(config, watcher)
        check_pool(config, data)
        header = header or read_header(config.model.spec())
        return cls(config, data, templates, header.profile, ContextLimit.of_experiment(config, header.config))

    def row(self, spec: CellSpec | TrainingSpec, row: Row, limit: int) -> Rendered:
        """One row of a cell or a training; demonstrations that are beyond the limit are dropped whole."""
        return self._row(spec, row, limit)[0]

    def cell(self, cell: CellSpec, rows: Sequence[Row] | None = None) -> RenderedCell:
        """A cell's rows, in the order of `rows`: the test rows, unless others are given."""
        both = [self._row(cell, row, self.limit.tokens) for row in (self.data.test if rows is None else rows)]
        return RenderedCell([rendered for rendered, _ in both], [similarity for _, similarity in both])

    def prompts(self, cell: CellSpec, rows: Sequence[Row], *, reserve: int) -> list[RenderedPrompt]:
        """A cell's prompts without the outputs, with room for `reserve` new tokens."""
        prompts = []
        for row in rows:
            chosen = self._demonstrations.of_cell(cell, row)
            prompts.append(
                render_prompt(
                    row,
                    self.templates[cell.prompt],
                    self.profile,
                    demos=chosen.demos,
                    max_tokens=self.limit.tokens,
                    reserve=reserve,
                    drop=chosen.drop,
                )
            )
        return prompts

    def training(self, training: TrainingSpec) -> TuneRows:
        """A training's rows, those that are too long left out whole, and the test and dev rows of its learning curve.

        Raises:
            DataError: rows are too long, and `tune.long_rows` is `error`.
        """
        whole = [self.row(training, row, NO_LIMIT) for row in self.data.train]
        train, dropped = select_rows(whole, self.training_limit, self.config.tune.long_rows)
        test, dev = (
            [self.row(training, row, self.limit.tokens) for row in rows] for rows in (self.data.test, self.data.dev)
        )
        return TuneRows(train, test, dev, dropped)

    def _row(self, spec: CellSpec | TrainingSpec, row: Row, limit: int) -> tuple[Rendered, tuple[float, ...]]:
        """A row, and the similarity to it of each demonstration that is shown."""
        cell = cell_as_trained(spec) if isinstance(spec, TrainingSpec) else spec
        chosen = self._demonstrations.of_cell(cell, row)
        template = self.templates[spec.prompt]
        rendered = render(row, template, self.profile, demos=chosen.demos, max_tokens=limit, drop=chosen.drop)
        near = dict(zip((demo.id for demo in chosen.demos), chosen.similarity, strict=True))
        return rendered, tuple(near[demo] for demo in rendered.demo_ids)
