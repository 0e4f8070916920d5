"""Scoring one cell: of a run, on its test rows; or of a request without an experiment, in memory (`triptych score`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.checks.rows import begin
from triptych.config.generate import GenerateConfig
from triptych.config.metrics import needs_texts
from triptych.data import empty_outputs
from triptych.errors import TriptychError
from triptych.generate.engine import generate_rows
from triptych.generate.plan import choose_limits
from triptych.generate.settings import GenerationSettings
from triptych.grid.cells import CellSpec, needs_vectors
from triptych.grid.rendered import rendered_cell
from triptych.likelihood.cache import score_cache, versions
from triptych.likelihood.measured import measure
from triptych.likelihood.score import Scorer
from triptych.metrics.texts import TextScores, score_texts
from triptych.models import Adapter, adapter_enabled, adapter_is_on
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt
from triptych.records import SCHEMA_VERSION, Aggregate, CellRecord, Versions
from triptych.runner.averages import averages
from triptych.runner.folder import FinishedCell
from triptych.runner.generation import settings_of
from triptych.runner.one_cell import CellRequest, OneCell, source_record
from triptych.runner.session import RunContext


def score_cell(run: RunContext, cell: CellSpec, adapter: Adapter | None) -> FinishedCell:
    """Score a cell on the test rows; with this adapter attached, or None for the base model.

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
        with run.reporter.task(f"scoring {cell.name}", len(rendered.rows)) as advance:
            items, nlls = measure(scorer, rendered.rows, rendered.options, advance)
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
        budget=len(run.rows.labelled(cell.subset)) if cell.k or cell.training else None,
        budget_seed=cell.subset.seed if cell.subset else None,
        demo_similarity_mean=rendered.mean_similarity(),
        demo_similarity_max=rendered.closest(),
        training=trained.name if trained else None,
        trained_prompt=trained.prompt if trained else None,
        trained_k=trained.k if trained else 0,
        train_seed=trained.seed if trained else None,
        adapter_sha256=adapter.sha256() if adapter else None,
        aggregate=averages(items),
        options_sha256=run.facts.options_sha256,
        seconds=time.perf_counter() - began,
        rows_cached=sum(nll.cached for nll in nlls),
        rows_with_demos_dropped=sum(item.n_demos_dropped > 0 for item in items),
        demos_dropped=sum(item.n_demos_dropped for item in items),
        identity=made_from.sha256,
        versions=Versions(**versions()),
    )
    tokens = [[round(x, 5) for x in nll.tokens.tolist()] for nll in nlls]
    return FinishedCell(record, items, tokens, made_from.record()["made_from"])


@dataclass(frozen=True, slots=True)
class CellScores:
    """What `scores.json` holds."""

    items: list[dict[str, Any]]
    """A row each: NLL in nats, counts, perplexity, metrics, what was shown, and what was written, if anything was."""
    aggregate: Aggregate
    provenance: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    """Metric that could not be computed -> why, with the row named."""

    def record(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "schema_version": SCHEMA_VERSION,
            "items": self.items,
            "aggregate": self.aggregate.model_dump(mode="json"),
            "provenance": self.provenance,
        }


def score_request(request: CellRequest, reporter: Reporter, *, cache: bool) -> CellScores:
    """Score the rows of a request (`triptych score`). Nothing is written but the cache of scores, which is read first.

    Raises:
        InputError: anything in the request that can't be used.
        ScoringError: the model gives a row no finite likelihood.
    """
    request.check()
    cell = OneCell(request, reporter, need_output=True)
    if empty := empty_outputs(cell.rows):
        reporter.warn(empty)
    loaded = cell.load()
    rendered = cell.rendered()
    writes = needs_texts(request.metrics)
    settings = settings_of(GenerateConfig(), cell.template, request.shots.k) if writes else None  # a run's defaults
    # before anything is scored: a prompt may leave no room
    prompts = cell.prompts(settings.max_new_tokens, kept_by=None) if settings else []
    scorer = Scorer(loaded, cache=score_cache(loaded) if cache else None)
    with reporter.task("scoring", len(rendered.rows)) as advance:
        items, nlls = measure(scorer, rendered.rows, rendered.options, advance)
    cell.warn_of_dropped(sum(item.n_demos_dropped for item in items))
    texts, worth = _texts(cell, prompts, settings, reporter) if settings else ([], TextScores())
    items = worth.added_to(items)
    made_from, shots = cell.made_from(), request.shots
    facts = {
        **made_from,
        "protocol": "hw3",
        "model": {**made_from["model"], "passes": "packed" if scorer.packed else "one row at a time"},
        "shots": shots.k,
        "seed": None,
        "draw": None,
        **shots.record(),
        "max_tokens": cell.limit.tokens,
        "metrics": list(request.metrics),
        "generation": settings.record() if settings else None,
        "rows_cached": sum(nll.cached for nll in nlls),
        "data": {role: source_record(one) for role, one in (("data", request.data), ("pool", shots.pool)) if one},
    }
    lines = [{"metrics": {}, **item.record(), "ppl": item.ppl} for item in items]
    for line, text in zip(lines, texts, strict=False):
        line["output"] = text
    return CellScores(lines, averages(items), facts, worth.errors)


def _texts(
    cell: OneCell, prompts: Sequence[RenderedPrompt], settings: GenerationSettings, reporter: Reporter
) -> tuple[list[str], TextScores]:
    """What the model writes for each row, and what that is worth."""
    written = generate_rows(cell.loaded, prompts, settings, reporter, limits=choose_limits(cell.loaded, None))
    texts = [row.text for row in written]
    worth = score_texts(cell.request.metrics, cell.rows, texts)
    for error in worth.errors.values():
        reporter.warn(error)
    return texts, worth
