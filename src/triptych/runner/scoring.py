"""Scoring one cell of a run: its test rows rendered, their NLL, its record."""

from __future__ import annotations

import time

from triptych.checks.rows import begin
from triptych.errors import TriptychError
from triptych.grid.cells import CellSpec, needs_vectors
from triptych.grid.rendered import rendered_cell
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.cache import versions
from triptych.likelihood.score import to_items
from triptych.models import Adapter, adapter_enabled, adapter_is_on
from triptych.records import CellRecord, Versions
from triptych.runner.context import RunContext
from triptych.runner.folder import FinishedCell


def score_cell(run: RunContext, cell: CellSpec, adapter: Adapter | None, title: str) -> FinishedCell:
    """Score a cell on the test rows and keep it in the folder.

    Args:
        run: the run.
        cell: which.
        adapter: switched on for it; None for the base model.
        title: of its progress bar.

    Raises:
        TriptychError: the adapter is not in the state that the cell asks for.
        InputError: demonstrations that embeddings chose fail a check.
    """
    loaded, scorer = run.session.load()
    began = time.perf_counter()
    rendered = run.rows.cell(cell)
    if needs_vectors(cell):  # the checks before the first pass could not see these
        begin(rendered_cell(run.rows, cell, rendered.rows), run.reporter)
    with adapter_enabled(adapter, on=adapter is not None):
        if adapter_is_on(loaded.model) != (adapter is not None):
            raise TriptychError(f"the adapter is {'off' if adapter else 'on'} for cell {cell.name}")
        with run.reporter.task(title, len(rendered.rows)) as advance:
            nlls = scorer.score(rendered.rows, advance)
    items = to_items(rendered.rows, nlls)
    trained, made_from = cell.training, run.facts.cell(cell)
    record = CellRecord(
        cell=cell.name,
        strategy=cell.strategy,
        prompt=cell.prompt,
        prompt_sha256=run.rows.templates[cell.prompt].sha256,
        k=cell.k,
        seed=cell.seed,
        draw=cell.draw,
        select=cell.select,
        order=cell.order,
        demo_similarity_mean=rendered.mean_similarity(),
        demo_similarity_max=rendered.closest(),
        training=trained.name if trained else None,
        trained_prompt=trained.prompt if trained else None,
        trained_k=trained.k if trained else 0,
        train_seed=trained.seed if trained else None,
        adapter_sha256=adapter.sha256() if adapter else None,
        aggregate=aggregate(items),
        seconds=time.perf_counter() - began,
        rows_cached=sum(nll.cached for nll in nlls),
        rows_with_demos_dropped=sum(item.n_demos_dropped > 0 for item in items),
        demos_dropped=sum(item.n_demos_dropped for item in items),
        identity=made_from.sha256,
        versions=Versions(**versions()),
    )
    tokens = [[round(x, 5) for x in nll.tokens.tolist()] for nll in nlls]
    finished = FinishedCell(record, items, tokens, made_from.record()["made_from"])
    run.folder.save_cell(finished)
    run.finished[cell.name] = finished
    run.session.note_memory()
    return finished
