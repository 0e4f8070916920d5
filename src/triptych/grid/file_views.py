"""All rows of one file as one cell shows them: what `score` and `predict` check and compute.

The checks are the same as a run's (`checks`), and so is what renders the rows (`Renderer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from triptych.data import Dataset, Row
from triptych.grid.cells import CellSpec
from triptych.grid.context_limit import ContextLimit
from triptych.grid.rendered import RenderedExperiment, RenderedRows, rows_that_fit
from triptych.grid.renderer import Renderer
from triptych.prompts import Rendered, RenderedPrompt


def view_scored(renderer: Renderer, cell: CellSpec, rows: Sequence[Row], limit: ContextLimit) -> RenderedExperiment:
    """The rows with their outputs, as an experiment of one part: its `rendered` are scored."""
    kept, rendered, too_long = rows_that_fit(rows, partial(renderer.row, cell), limit.tokens)
    part = RenderedRows("data", cell.prompt, kept, rendered, len(rows), limit.tokens, too_long, cell=cell)
    return _alone(part, renderer, rows, limit)


def view_prompts(
    renderer: Renderer, cell: CellSpec, rows: Sequence[Row], limit: ContextLimit, *, reserve: int
) -> tuple[RenderedExperiment, tuple[RenderedPrompt, ...]]:
    """The rows' prompts; outputs, if the rows have any, reach no model and are not looked at.

    Args:
        renderer: renders a row.
        cell: how rows are prompted.
        rows: the rows.
        limit: the longest prompt with its answer.
        reserve: tokens of it that are kept for the answer.
    """
    one = partial(renderer.prompt, cell, reserve=reserve)
    kept, prompts, too_long = rows_that_fit(rows, one, limit.tokens, reserve=reserve)
    rendered = tuple(Rendered(p.row_id, p.ids, len(p.ids), 0, p.demo_ids, p.n_demos_dropped) for p in prompts)
    asked = tuple(replace(row, output="") for row in kept)
    part = RenderedRows("data", cell.prompt, asked, rendered, len(rows), limit.tokens, too_long, cell=cell)
    return _alone(replace(part, answered=False), renderer, rows, limit), prompts


def _alone(part: RenderedRows, renderer: Renderer, rows: Sequence[Row], limit: ContextLimit) -> RenderedExperiment:
    data = Dataset(tuple(renderer.demonstrations.pool), (), tuple(rows))
    return RenderedExperiment(data, renderer.templates, renderer.profile, limit, (part,))
