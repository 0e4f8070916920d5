"""Rows of one cell as the model will see them, once its demonstrations can be chosen: what the checks of `score` and
`predict` look at, and those of a run's cells whose demonstrations only the model can choose.

The checks are the same as a run's (`checks`), and so is what renders the rows (`rendering`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec
from triptych.grid.rendering import Demonstrations, prompts_of_cell, render_cell
from triptych.grid.views import Ceiling, View, Views, rows_that_fit
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered, RenderedPrompt, Template

__all__ = ["view_cell", "view_prompts", "view_scored"]


def view_scored(
    cell: CellSpec,
    rows: Sequence[Row],
    demonstrations: Demonstrations,
    template: Template,
    profile: TokenizerProfile,
    ceiling: Ceiling,
) -> Views:
    """Rows to score, rendered with their outputs: the one view's `rendered`.

    Args:
        cell: how they are prompted.
        rows: the rows.
        demonstrations: chooses what is shown to each.
        template: the cell's prompt.
        profile: the model's tokenizer.
        ceiling: the longest rendering.
    """
    templates = {cell.prompt: template}

    def one(row: Row, limit: int) -> Rendered:
        return render_cell(cell, [row], demonstrations, templates, profile, max_tokens=limit).rows[0]

    kept, rendered, too_long = rows_that_fit(rows, one, ceiling.tokens)
    view = View("data", cell.prompt, kept, rendered, len(rows), ceiling.tokens, too_long, cell=cell)
    return _views(view, Dataset(tuple(demonstrations.pool), (), tuple(rows)), templates, profile, ceiling)


def view_prompts(
    cell: CellSpec,
    rows: Sequence[Row],
    demonstrations: Demonstrations,
    template: Template,
    profile: TokenizerProfile,
    ceiling: Ceiling,
    *,
    reserve: int,
) -> tuple[Views, list[RenderedPrompt]]:
    """Rows to predict, and their prompts; outputs, if the rows have any, reach no model and are not looked at.

    Args:
        cell: how they are prompted.
        rows: the rows.
        demonstrations: chooses what is shown to each.
        template: the cell's prompt.
        profile: the model's tokenizer.
        ceiling: the longest prompt with its answer.
        reserve: tokens of it that are kept for the answer.
    """
    templates = {cell.prompt: template}

    def one(row: Row, limit: int) -> RenderedPrompt:
        return prompts_of_cell(cell, [row], demonstrations, templates, profile, max_tokens=limit, reserve=reserve)[0]

    kept, prompts, too_long = rows_that_fit(rows, one, ceiling.tokens, reserve=reserve)
    rendered = tuple(Rendered(p.row_id, p.ids, len(p.ids), 0, p.demo_ids, p.n_demos_dropped) for p in prompts)
    asked = tuple(replace(row, output="") for row in kept)
    view = View("data", cell.prompt, asked, rendered, len(rows), ceiling.tokens, too_long, cell=cell, answered=False)
    data = Dataset(tuple(demonstrations.pool), (), tuple(rows))
    return _views(view, data, templates, profile, ceiling), list(prompts)


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


def _views(
    view: View, data: Dataset, templates: Mapping[str, Template], profile: TokenizerProfile, ceiling: Ceiling
) -> Views:
    return Views(data, templates, profile, (view,), (), (), ceiling=ceiling)
