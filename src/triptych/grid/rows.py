"""The rows of each cell, candidate and training of an experiment as the model will see them.

    test rows             ─► cell      ─► a cell of the grid
    dev rows, as needed   ─► cell      ─► a candidate of a search
    test rows             ─► prompts   ─► what a cell's texts are generated from
    train, test, dev rows ─► training  ─► rows to train on and those of its learning curve

The run, its checks, `preview`, `plan` and the search ask it, so that what is checked, shown and counted is what is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset, Row
from triptych.grid.budgets import Subsets
from triptych.grid.cells import CellSpec, TrainingSpec, cell_as_trained
from triptych.grid.demonstrations import Demonstrations
from triptych.grid.inputs import check_budgets, check_pool, demo_pool, read_data, templates_of
from triptych.grid.renderer import NO_LIMIT, ContextLimit, RenderedCell, Renderer
from triptych.metrics.options import Options, are_classes, options_of
from triptych.metrics.texts import check_references
from triptych.models import TokenizerProfile
from triptych.models.header import ModelHeader, read_header
from triptych.models.shape import context_of
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt, Template
from triptych.prompts.ranking import Vectors
from triptych.training import TuneRows, select_rows


class ExperimentRows(Renderer):
    """Renders an experiment's rows with its templates, its demonstrations and the model's tokenizer.

    `limit` is the longest rendering to score. `vectors` gives the embeddings that choose demonstrations, and is called
    once, when they are first needed. Without it, `embedding` can't choose, and `mmr` ranks by n-grams; these are the
    settings that `cells.needs_vectors` names.
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
        subsets = Subsets(data.train, by_output=are_classes(data.outputs))
        self.labelled = cache(subsets.of)
        """The training rows of a subset; None for all."""
        pool, rules = demo_pool(data), config.strategies.demos
        demonstrations = Demonstrations(pool, rules, vectors=vectors, labelled=self.labelled)
        super().__init__(demonstrations, templates, profile)
        self.config, self.data, self.limit = config, data, limit
        self.training_limit = min(limit.tokens, config.tune.max_tokens)
        """The longest row to train on."""
        if config.generate is not None:
            check_references(config.metrics, data.test[: config.generate.rows])
            if config.strategies.search:
                check_references(config.metrics[:1], data.dev)
        self.options: Options | None = None
        """Of the metric `accuracy`; None where it is not asked for."""
        if "accuracy" in config.metrics:
            self.options = options_of(config.data.choices, data.outputs, [*data.test, *data.dev])

    @classmethod
    def read(
        cls,
        config: ExperimentConfig,
        header: ModelHeader | None = None,
        reporter: Reporter | None = None,
        *,
        vectors: Callable[[], Vectors] | None = None,
    ) -> ExperimentRows:
        """Read templates, rows, tokenizer and, unless it is given, the model's header. No weights are read.

        Raises:
            InputError: settings, data or tokenizer can't be used.
        """
        templates, data = templates_of(config), read_data(config, reporter)
        check_pool(config, data)
        check_budgets(config, data)
        header = header or read_header(config.model)
        limit = ContextLimit.of("max_tokens", config.max_tokens, context_of(header.config))
        return cls(config, data, templates, header.profile, limit, vectors=vectors)

    def cell(self, cell: CellSpec, rows: Sequence[Row] | None = None) -> RenderedCell:
        """A cell's rows, with their options if there are any, in the order of `rows`: the test rows, unless others are
        given.
        """
        given = self.data.test if rows is None else rows
        if self.options is not None:
            limit = self.limit.tokens
            every = [self.options_and_similarity(cell, row, self.options.of(row), limit) for row in given]
            options = [rendered for rendered, _ in every]
            return RenderedCell([one.row for one in options], [similarity for _, similarity in every], options)
        both = [self.row_and_similarity(cell, row, self.limit.tokens) for row in given]
        return RenderedCell([rendered for rendered, _ in both], [similarity for _, similarity in both])

    def prompts(self, cell: CellSpec, rows: Sequence[Row], *, reserve: int) -> list[RenderedPrompt]:
        """A cell's prompts without the outputs, with room for `reserve` new tokens."""
        return [self.prompt(cell, row, self.limit.tokens, reserve=reserve) for row in rows]

    def training(self, training: TrainingSpec) -> TuneRows:
        """A training's rows, those that are too long left out whole, and the test and dev rows of its learning curve.

        Raises:
            DataError: rows are too long, and `tune.long_rows` is `error`.
        """
        whole = [self.row(training, row, NO_LIMIT) for row in self.labelled(training.subset)]
        train, dropped = select_rows(whole, self.training_limit, self.config.tune.long_rows)
        cell = cell_as_trained(training)
        test, dev = self.cell(cell), self.cell(cell, self.data.dev)
        return TuneRows(train, test.rows, dev.rows, dropped, test.options, dev.options)
