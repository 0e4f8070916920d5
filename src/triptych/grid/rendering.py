"""Demonstrations of an experiment's cells, and the cells' rows as the model will see them.

Rows are chosen from one pool by one set of rules (`strategies.demos`), so a selection is built once and asked for every
cell that uses it. What ranks by vectors asks for them when it is first needed: they may need the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from triptych.config.choices import Draw, Order, Select
from triptych.config.strategies import DemosConfig
from triptych.data import Row
from triptych.grid.cells import NEAREST, CellSpec, TrainingSpec
from triptych.prompts import Rendered, RenderedPrompt, Template, Tokenizes, render, render_prompt
from triptych.prompts.ranking import Vectors
from triptych.prompts.selection import Chosen, Selector

__all__ = [
    "Demonstrations",
    "RenderedCell",
    "prompts_of_cell",
    "prompts_of_rows",
    "render_cell",
    "render_training",
    "rows_of_choice",
]

BY_VECTORS: frozenset[Select] = frozenset({"embedding", "mmr"})


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


class Demonstrations:
    """Chooses demonstrations from a pool by an experiment's rules.

    Args:
        pool: training rows that may be shown.
        config: the rules.
        vectors: gives the embedding of every instruction that may be asked for, by instruction; called once, when the
            first selection needs it.
    """

    def __init__(
        self, pool: Sequence[Row], config: DemosConfig | None = None, *, vectors: Callable[[], Vectors] | None = None
    ) -> None:
        self.pool, self.config = pool, config or DemosConfig()
        self._known = None if vectors is None else cache(vectors)
        self._selectors: dict[tuple[Select, Draw, Order | None], Selector] = {}

    def choose(
        self,
        row: Row,
        k: int,
        *,
        select: Select,
        draw: Draw | None = None,
        order: Order | None = None,
        seed: int | None = None,
    ) -> Chosen:
        """k rows of the pool for this row.

        Args:
            row: the query.
            k: how many.
            select: by which strategy.
            draw: for strategies that draw.
            order: None shows them as they were drawn, or ranked by length.
            seed: None for strategies that don't draw.
        """
        key = (select, draw or "item", order)
        if key not in self._selectors:
            self._selectors[key] = Selector(
                self.pool,
                select=select,
                draw=key[1],
                order=key[2],
                column=self.config.column,
                vectors=self._known() if self._known and select in BY_VECTORS else None,
                max_similarity=self.config.max_similarity,
                mmr_lambda=self.config.mmr_lambda,
            )
        return self._selectors[key].choose(row, k, seed=seed or 0)

    def of_cell(self, cell: CellSpec, row: Row) -> Chosen:
        """What a cell shows of the pool for a row."""
        if not cell.k or not cell.select:
            return Chosen()
        return self.choose(row, cell.k, select=cell.select, draw=cell.draw, order=cell.order, seed=cell.seed)


def render_cell(
    cell: CellSpec,
    rows: Sequence[Row],
    demonstrations: Demonstrations,
    templates: Mapping[str, Template],
    tokenizer: Tokenizes,
    *,
    max_tokens: int,
) -> RenderedCell:
    """The cell's rows as the model will see them, in the order of `rows`."""
    rendered, similarity = [], []
    for row in rows:
        chosen = demonstrations.of_cell(cell, row)
        template = templates[cell.prompt]
        one = render(row, template, tokenizer, demos=chosen.demos, max_tokens=max_tokens, drop=chosen.drop)
        near = dict(zip((demo.id for demo in chosen.demos), chosen.similarity, strict=True))
        rendered.append(one)
        similarity.append(tuple(near[demo] for demo in one.demo_ids))
    return RenderedCell(rendered, similarity)


def prompts_of_cell(
    cell: CellSpec,
    rows: Sequence[Row],
    demonstrations: Demonstrations,
    templates: Mapping[str, Template],
    tokenizer: Tokenizes,
    *,
    max_tokens: int,
    reserve: int,
) -> list[RenderedPrompt]:
    """The cell's prompts without the outputs, with room for `reserve` new tokens: what the model goes on from."""
    prompts = []
    for row in rows:
        chosen = demonstrations.of_cell(cell, row)
        prompts.append(
            render_prompt(
                row,
                templates[cell.prompt],
                tokenizer,
                demos=chosen.demos,
                max_tokens=max_tokens,
                reserve=reserve,
                drop=chosen.drop,
            )
        )
    return prompts


def render_training(
    training: TrainingSpec,
    rows: Sequence[Row],
    demonstrations: Demonstrations,
    template: Template,
    tokenizer: Tokenizes,
    *,
    max_tokens: int,
) -> list[Rendered]:
    """Rows as an adapter is trained on them: with other training rows as demonstrations where it is asked for."""
    rendered = []
    for row in rows:
        chosen = Chosen()
        if training.k:
            order: Order | None = "nearest-last" if training.select in NEAREST else None
            chosen = demonstrations.choose(
                row, training.k, select=training.select, draw="item", order=order, seed=training.seed
            )
        rendered.append(render(row, template, tokenizer, demos=chosen.demos, max_tokens=max_tokens, drop=chosen.drop))
    return rendered


def rows_of_choice(
    rows: Sequence[Row], chosen: Sequence[Chosen], template: Template, tokenizer: Tokenizes
) -> Callable[[Row, int], Rendered]:
    """What renders one of these rows, with the demonstrations chosen for it, within a limit of tokens."""
    shown = {row.id: one for row, one in zip(rows, chosen, strict=True)}

    def rendered(row: Row, limit: int) -> Rendered:
        one = shown[row.id]
        return render(row, template, tokenizer, demos=one.demos, max_tokens=limit, drop=one.drop)

    return rendered


def prompts_of_rows(
    rows: Sequence[Row], chosen: Sequence[Chosen], template: Template, tokenizer: Tokenizes, *, reserve: int
) -> Callable[[Row, int], RenderedPrompt]:
    """The same without the outputs: prompts with room for `reserve` new tokens."""
    shown = {row.id: one for row, one in zip(rows, chosen, strict=True)}

    def prompt(row: Row, limit: int) -> RenderedPrompt:
        one = shown[row.id]
        return render_prompt(
            row, template, tokenizer, demos=one.demos, max_tokens=limit, reserve=reserve, drop=one.drop
        )

    return prompt
