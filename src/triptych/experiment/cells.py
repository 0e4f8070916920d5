"""The grid: which cells an experiment has, and what each one's rows look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.data import Dataset, Row
from triptych.errors import ConfigError
from triptych.experiment.config import ExperimentConfig
from triptych.prompts import Draw, Rendered, Template, Tokenizes, draw_demos, find_template, render, template_from_text
from triptych.prompts.template import template_from_mapping
from triptych.records.schema import Strategy

__all__ = ["CellSpec", "grid", "render_cell", "templates_of"]


@dataclass(frozen=True, slots=True)
class CellSpec:
    """One strategy at one setting."""

    strategy: Strategy
    prompt: str
    k: int = 0
    seed: int | None = None
    draw: Draw | None = None

    @property
    def name(self) -> str:
        """Readable and unique, e.g. `few_shot/default/k=3/draw=item/seed=1`."""
        parts = [self.strategy, self.prompt]
        if self.k:
            parts += [f"k={self.k}", f"draw={self.draw}", f"seed={self.seed}"]
        return "/".join(parts)


def grid(config: ExperimentConfig) -> list[CellSpec]:
    """All cells, those of the base model first: the adapter is put on once, after them."""
    cells: list[CellSpec] = []
    if zero := config.strategies.zero_shot:
        cells += [CellSpec("zero_shot", prompt) for prompt in dict.fromkeys(zero.prompts)]
    if few := config.strategies.few_shot:
        cells += [
            CellSpec("few_shot", few.prompt, k, seed, draw) for draw in few.draw for k in few.k for seed in few.seeds
        ]
    if qlora := config.strategies.qlora:
        cells.append(CellSpec("qlora", qlora.prompt))
    return cells


def templates_of(config: ExperimentConfig) -> dict[str, Template]:
    """The template of every prompt the grid uses.

    Raises:
        TemplateError: one can't be found, or is malformed.
    """
    own = {}
    for name, given in config.prompts.items():
        if isinstance(given, str):
            own[name] = template_from_text(given, name=name)
        else:
            own[name] = template_from_mapping({**given, "name": name}, name=name, where=f"prompts.{name}")
    return {cell.prompt: find_template(cell.prompt, own) for cell in grid(config)}


def demo_pool(data: Dataset) -> list[Row]:
    """Training rows that may be shown: never one that occurs in the test set."""
    return [row for row in data.train if row.id not in data.overlapping_train_ids]


def check_pool(config: ExperimentConfig, data: Dataset) -> None:
    """Say before any work that a k is too large.

    Raises:
        ConfigError: k is larger than the pool.
    """
    few = config.strategies.few_shot
    pool = demo_pool(data)
    if few and max(few.k) > len(pool):
        raise ConfigError(
            "more demonstrations are asked for than there are training rows to show",
            where="strategies.few_shot.k",
            found=f"k = {max(few.k)}, {len(pool)} training rows that are not in the test set",
            fix="lower k, or give more training rows",
        )


def render_cell(
    cell: CellSpec,
    rows: Sequence[Row],
    pool: Sequence[Row],
    templates: Mapping[str, Template],
    tokenizer: Tokenizes,
    *,
    max_tokens: int,
) -> list[Rendered]:
    """The cell's rows as the model will see them, in the order of the test set."""
    rendered = []
    for row in rows:
        demos: tuple[Row, ...] = ()
        if cell.k and cell.seed is not None and cell.draw is not None:
            demos = draw_demos(pool, cell.k, seed=cell.seed, draw=cell.draw, row_id=row.id)
        rendered.append(render(row, templates[cell.prompt], tokenizer, demos=demos, max_tokens=max_tokens))
    return rendered
