"""Rows of one cell as the model will see them, once its demonstrations are chosen: what the checks of `score` and
`predict` look at, and those of a run's cells whose demonstrations only the model can choose.

The checks are the same as a run's (`checks`); here is what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec
from triptych.grid.rendering import prompts_of_rows, rows_of_choice
from triptych.grid.views import Ceiling, View, Views, rows_that_fit
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered, RenderedPrompt, Template
from triptych.prompts.selection import Chosen

__all__ = ["view_cell", "view_prompts", "view_scored"]


def view_scored(
    rows: Sequence[Row],
    pool: Sequence[Row],
    chosen: Sequence[Chosen],
    template: Template,
    profile: TokenizerProfile,
    ceiling: Ceiling,
) -> Views:
    """Rows to score, rendered with their outputs: the one view's `rendered`.

    Args:
        rows: the rows.
        pool: what demonstrations were chosen from.
        chosen: the demonstrations of each row.
        template: the prompt.
        profile: the model's tokenizer.
        ceiling: the longest rendering.
    """
    one = rows_of_choice(rows, chosen, template, profile)
    kept, rendered, too_long = rows_that_fit(rows, one, ceiling.tokens)
    view = View(
        "data", template.name, kept, rendered, len(rows), ceiling.tokens, too_long, cell=_cell(template, chosen)
    )
    return _views(view, Dataset(tuple(pool), (), tuple(rows)), {template.name: template}, profile, ceiling)


def view_prompts(
    rows: Sequence[Row],
    pool: Sequence[Row],
    chosen: Sequence[Chosen],
    template: Template,
    profile: TokenizerProfile,
    ceiling: Ceiling,
    *,
    reserve: int,
) -> tuple[Views, list[RenderedPrompt]]:
    """Rows to predict, and their prompts; outputs, if the rows have any, reach no model and are not looked at.

    Args:
        rows: the rows.
        pool: what demonstrations were chosen from.
        chosen: the demonstrations of each row.
        template: the prompt.
        profile: the model's tokenizer.
        ceiling: the longest prompt with its answer.
        reserve: tokens of it that are kept for the answer.
    """
    one = prompts_of_rows(rows, chosen, template, profile, reserve=reserve)
    kept, prompts, too_long = rows_that_fit(rows, one, ceiling.tokens, reserve=reserve)
    rendered = tuple(Rendered(p.row_id, p.ids, len(p.ids), 0, p.demo_ids, p.n_demos_dropped) for p in prompts)
    asked = tuple(replace(row, output="") for row in kept)
    view = View(
        *("data", template.name, asked, rendered, len(rows), ceiling.tokens, too_long),
        cell=_cell(template, chosen),
        answered=False,
    )
    views = _views(view, Dataset(tuple(pool), (), tuple(rows)), {template.name: template}, profile, ceiling)
    return views, list(prompts)


def view_cell(
    cell: CellSpec,
    rendered: Sequence[Rendered],
    data: Dataset,
    templates: Mapping[str, Template],
    profile: TokenizerProfile,
    ceiling: Ceiling,
) -> Views:
    """A cell of a run with the test rows' renderings that will be scored."""
    view = View(cell.name, cell.prompt, data.test, tuple(rendered), len(data.test), ceiling.tokens, cell=cell)
    return _views(view, data, templates, profile, ceiling)


def _cell(template: Template, chosen: Sequence[Chosen]) -> CellSpec:
    k = max((len(one.demos) for one in chosen), default=0)
    return CellSpec("few_shot" if k else "zero_shot", template.name, k=k)


def _views(
    view: View, data: Dataset, templates: Mapping[str, Template], profile: TokenizerProfile, ceiling: Ceiling
) -> Views:
    return Views(data, templates, profile, (view,), (), (), ceiling=ceiling)
