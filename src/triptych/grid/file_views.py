"""Rows of one cell as the model will see them, once its demonstrations are chosen: what the checks of `score` and
`predict` look at.

The checks are the same as a run's (`checks`); here is what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec
from triptych.grid.context_limit import ContextLimit
from triptych.grid.demonstrations import prompts_of_rows, rows_of_choice
from triptych.grid.rendered import RenderedExperiment, RenderedRows, rows_that_fit
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered, RenderedPrompt, Template
from triptych.prompts.selection import Chosen

__all__ = ["view_prompts", "view_scored"]


def view_scored(
    rows: Sequence[Row],
    pool: Sequence[Row],
    chosen: Sequence[Chosen],
    template: Template,
    profile: TokenizerProfile,
    limit: ContextLimit,
) -> RenderedExperiment:
    """Rows to score, rendered with their outputs: the one view's `rendered`.

    Args:
        rows: the rows.
        pool: what demonstrations were chosen from.
        chosen: the demonstrations of each row.
        template: the prompt.
        profile: the model's tokenizer.
        limit: the longest rendering.
    """
    one = rows_of_choice(rows, chosen, template, profile)
    kept, rendered, too_long = rows_that_fit(rows, one, limit.tokens)
    view = RenderedRows(
        "data", template.name, kept, rendered, len(rows), limit.tokens, too_long, cell=_cell(template, chosen)
    )
    return _views(view, Dataset(tuple(pool), (), tuple(rows)), {template.name: template}, profile, limit)


def view_prompts(
    rows: Sequence[Row],
    pool: Sequence[Row],
    chosen: Sequence[Chosen],
    template: Template,
    profile: TokenizerProfile,
    limit: ContextLimit,
    *,
    reserve: int,
) -> tuple[RenderedExperiment, list[RenderedPrompt]]:
    """Rows to predict, and their prompts; outputs, if the rows have any, reach no model and are not looked at.

    Args:
        rows: the rows.
        pool: what demonstrations were chosen from.
        chosen: the demonstrations of each row.
        template: the prompt.
        profile: the model's tokenizer.
        limit: the longest prompt with its answer.
        reserve: tokens of it that are kept for the answer.
    """
    one = prompts_of_rows(rows, chosen, template, profile, reserve=reserve)
    kept, prompts, too_long = rows_that_fit(rows, one, limit.tokens, reserve=reserve)
    rendered = tuple(Rendered(p.row_id, p.ids, len(p.ids), 0, p.demo_ids, p.n_demos_dropped) for p in prompts)
    asked = tuple(replace(row, output="") for row in kept)
    view = RenderedRows(
        *("data", template.name, asked, rendered, len(rows), limit.tokens, too_long),
        cell=_cell(template, chosen),
        answered=False,
    )
    views = _views(view, Dataset(tuple(pool), (), tuple(rows)), {template.name: template}, profile, limit)
    return views, list(prompts)


def _cell(template: Template, chosen: Sequence[Chosen]) -> CellSpec:
    k = max((len(one.demos) for one in chosen), default=0)
    return CellSpec("few_shot" if k else "zero_shot", template.name, k=k)


def _views(
    view: RenderedRows, data: Dataset, templates: Mapping[str, Template], profile: TokenizerProfile, limit: ContextLimit
) -> RenderedExperiment:
    return RenderedExperiment(data, templates, profile, limit, (view,))
