"""What the model writes in a run's cells (`generate:`), beside the perplexities: texts, chrF++ and BLEU.

    predictions/CELL.json           [{"id", "output"}], the test rows in their order
    predictions/CELL.record.json    what made them, what ended each row, the check, chrF++ of each row

`decode` begins a file and resumes it, here and for `triptych predict`; finished files are never written again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from triptych.config.generate import DecodingConfig, GenerateConfig
from triptych.data import Row
from triptych.errors import DataError, TriptychError
from triptych.generate.check import Check, check_predictions
from triptych.generate.engine import generate_rows
from triptych.generate.plan import Limits, choose_limits
from triptych.generate.quality import measure_quality
from triptych.generate.record import finished_rows, prompt_texts, record_of, special_texts, write_predictions
from triptych.generate.resume_file import PartFile, part_of
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import patterns_of
from triptych.grid.cells import CellSpec, candidates, grid, unknown_cell
from triptych.grid.rendered import MOST_ROWS, rows_that_fit, spread
from triptych.grid.rows import ExperimentRows
from triptych.likelihood.cache import versions
from triptych.metrics.texts import score_texts
from triptych.models import LoadedModel, adapter_enabled, adapter_is_on
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt, Template
from triptych.records.identity import joined_versions, version_changes
from triptych.records.manifest import remove
from triptych.records.schema import GenerationRecord, Versions
from triptych.records.store import read_json
from triptych.runner.folder import FinishedCell
from triptych.runner.session import RunContext

_NAMED = 5


def check_names(config: GenerateConfig, cells: Sequence[CellSpec]) -> None:
    """Check before any work that the cells are there.

    Raises:
        ConfigError: `generate.cells` names a cell that the grid doesn't have.
    """
    names = [cell.name for cell in cells]
    for name in () if isinstance(config.cells, str) else config.cells:
        if name not in names:
            what = "texts are asked for from a cell that the experiment doesn't have"
            raise unknown_cell(name, names, where="generate.cells", what=what)


def check_room(rows: ExperimentRows) -> None:
    """Check before any work that every prompt that may be written from leaves room for the new tokens.

    Raises:
        DataError: some don't, even without demonstrations.
    """
    config, limit = rows.config.generate, rows.limit
    if config is None:
        return
    search, named = rows.config.strategies.search, None if isinstance(config.cells, str) else config.cells
    cells = [cell for cell in grid(rows.config) if named is None or cell.name in named]
    tried = candidates(search) if search and named is None else []
    test, new = spread(rows.data.test[: config.rows], MOST_ROWS), config.max_new_tokens
    for prompt in dict.fromkeys(cell.prompt for cell in (*cells, *tried)):
        bare = partial(rows.prompt, CellSpec("zero_shot", prompt), reserve=new)
        _, _, too_long = rows_that_fit(test, bare, limit.tokens, reserve=new)
        if too_long:
            more = f" and {len(too_long) - _NAMED} more" if len(too_long) > _NAMED else ""
            raise DataError(
                "the new tokens leave no room for a prompt, even without demonstrations",
                where=f"generate.max_new_tokens, prompt `{prompt}`",
                found=f"{new} new tokens, and {len(too_long)} rows: {', '.join(too_long[:_NAMED])}{more}",
                expected=f"at most {limit.tokens} tokens, prompt and new tokens together",
                fix=replace(limit, kept_by="generate.max_new_tokens").how_to_fit(),
            )


def to_write(
    config: GenerateConfig, cells: Sequence[CellSpec], finished: Mapping[str, FinishedCell], first: str
) -> list[CellSpec]:
    """The cells to write texts of: `best` is the best prompt, the best demonstrations, and each training as trained.

    `first`: the metric by which they are the best, if it is not of texts.
    """
    if config.cells == "all":
        return list(cells)
    if config.cells != "best":
        return [cell for cell in cells if cell.name in config.cells]

    def badness(cell: CellSpec) -> tuple[float, float]:
        average = finished[cell.name].record.aggregate
        decides = average.metrics.get(first)
        return (0.0 if decides is None else -decides.value, average.ppl_mean)

    best: list[CellSpec] = []
    for strategy in ("zero_shot", "few_shot"):
        scored = [cell for cell in cells if cell.strategy == strategy and cell.name in finished]
        best += [min(scored, key=badness)] if scored else []
    trained: dict[str, CellSpec] = {}
    for cell in cells:
        if cell.training:
            trained.setdefault(cell.training.name, cell)  # the first is the training's own prompt and demonstrations
    return [*best, *trained.values()]


def write_cell(run: RunContext, cell: CellSpec, adapter_sha256: str | None) -> GenerationRecord:
    """Write a cell's texts, or those that an earlier process left to do; read them if all are there.

    `adapter_sha256`: of the adapter that the cell was scored with; None for the base model's.

    Raises:
        RunChangedError: texts of other settings are there.
        ModelError: a prompt leaves no room for an output.
    """
    config = run.config.generate
    assert config is not None
    rows = run.rows.data.test[: config.rows]
    template, out = run.rows.templates[cell.prompt], run.folder.predictions_of(cell.name)
    settings = settings_of(config, template, cell.k)
    facts = {
        "cell": cell.name,
        "identity": run.facts.cell(cell).sha256,
        "adapter_sha256": adapter_sha256,
        "prompt_sha256": template.sha256,
        "rows": [row.id for row in rows],
        "generation": settings.record(),
    }
    if out.exists() and record_of(out).exists():
        rows_written = finished_rows(out, facts, fix=_anew(out, record_of(out)))
        summary = GenerationRecord.model_validate(read_json(record_of(out))["summary"])
        return _measured(run, summary, rows, [row.text for row in rows_written])
    loaded, _ = run.session.load()
    adapter = run.attach(cell.training)
    prompts = run.rows.prompts(cell, rows, reserve=settings.max_new_tokens)
    run.reporter.info(f"writing {len(prompts)} rows of {cell.name}")
    began, path, what = time.perf_counter(), part_of(out), f"the texts of {cell.name}"
    with adapter_enabled(adapter, on=adapter is not None):
        if adapter_is_on(loaded.model) != (adapter_sha256 is not None):
            raise TriptychError(f"the adapter is {'off' if adapter_sha256 else 'on'} for {what}")
        written, part = decode(loaded, prompts, settings, path, facts, run.reporter, what=what, fix=_anew(path))
    seconds, special = time.perf_counter() - began, special_texts(loaded.profile.tokenizer)
    used = joined_versions([part.runtime_choices.get("versions", {}), versions()])
    check = check_texts(written, rows, template, special, chat_model=loaded.profile.has_chat_template)
    summary = _summary(cell, rows, written, settings, check, seconds=seconds, used=used)
    summary = _measured(run, summary, rows, [row.text for row in written])
    write_predictions(out, written, {"facts": facts, "summary": summary.model_dump(mode="json")})
    remove(path)
    return summary


def _measured(
    run: RunContext, summary: GenerationRecord, rows: Sequence[Row], texts: Sequence[str]
) -> GenerationRecord:
    """A cell's record with the metrics of its texts that are asked for now, all computed now: that takes no time beside
    the writing, and a function of the user's may have been changed since.
    """
    scores = score_texts(run.config.metrics, rows, texts)
    for error in scores.errors.values():
        run.reporter.warn(f"{summary.cell}: {error}")
    return summary.model_copy(update={"row_metrics": scores.values, "metric_errors": scores.errors})


def decode(
    loaded: LoadedModel,
    prompts: Sequence[RenderedPrompt],
    settings: GenerationSettings,
    path: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
    *,
    what: str,
    batch_rows: int | None = None,
    fresh: bool = False,
    fix: str | None = None,
) -> tuple[list[Generated], PartFile]:
    """Write the prompts' outputs to the part file at `path`, after those that an earlier process wrote there.

    Args:
        loaded: the model, with its adapter enabled or disabled as the texts ask for.
        prompts: the rows.
        settings: how to decode.
        path: the part file, which the caller removes when the predictions are in their place.
        facts: what decides the texts; a part file of other facts is refused, with `fix` as the advice.
        reporter: told of progress, and of other versions.
        what: the texts, in messages.
        batch_rows: rows decoded at a time; None: as memory allows.
        fresh: begin a new file, also where an earlier process left one.
        fix: None for the options of `triptych predict`.

    Returns:
        All rows, and the closed part file: what was chosen when it was begun, and the rows that were in it.
    """
    part = None if fresh else PartFile.resume(path, facts, fix=fix)
    if part is None:
        most = choose_limits(loaded, batch_rows).record()
        choices = {"threads": loaded.info["threads"], "limits": most, "versions": versions()}
        part = PartFile.begin(path, facts, choices)
    if part.known:
        reporter.info(f"{len(part.known)} of {len(prompts)} rows were written before; the others follow")
    if changed := version_changes(part.runtime_choices.get("versions", {}), versions()):
        reporter.warn(f"{what} were begun with other versions: {', '.join(changed)}")
    try:
        limits = Limits(**part.runtime_choices["limits"])
        return generate_rows(loaded, prompts, settings, reporter, part.add, known=part.known, limits=limits), part
    finally:
        part.close()


def check_texts(
    written: Sequence[Generated], rows: Sequence[Row], template: Template, special: Sequence[str], *, chat_model: bool
) -> Check:
    """What is odd in the texts that were written for these rows; `chat_model`: the model has a chat template."""
    return check_predictions(
        [(row.row_id, row.text) for row in written],
        rows,
        stopped_by={row.row_id: row.stopped_by for row in written},
        special=special,
        prompt_texts=prompt_texts(template),
        chat=chat_model or template.style != "plain",
    )


def _anew(*paths: Path) -> str:
    """How to have a cell's texts written again, and nothing else."""
    named = " and ".join(map(str, paths))
    return f"delete {named}: the same command then writes these texts again, and keeps all else"


def settings_of(config: GenerateConfig, template: Template, k: int) -> GenerationSettings:
    """How to write behind a template with k demonstrations, with the stop patterns that it brings."""
    chosen = config.model_dump(include=set(DecodingConfig.model_fields))
    return GenerationSettings(**chosen, stop_patterns=patterns_of(template, shots=k) if config.stop_texts else ())


def _summary(
    cell: CellSpec,
    rows: Sequence[Row],
    written: Sequence[Generated],
    settings: GenerationSettings,
    check: Check,
    *,
    seconds: float,
    used: Mapping[str, str],
) -> GenerationRecord:
    ends = Counter(row.stopped_by for row in written)
    quality = measure_quality([row.text for row in written], [row.target() for row in rows])
    return GenerationRecord(
        cell=cell.name,
        n_rows=len(rows),
        n_tokens=sum(row.n_tokens for row in written),
        stopped_by=dict(sorted(ends.items())),
        findings={f.kind: len(f.row_ids) for f in check.findings},
        chrf=quality.chrf,
        bleu=quality.bleu,
        chrf_signature=quality.chrf_signature,
        bleu_signature=quality.bleu_signature,
        row_chrf={row.id: value for row, value in zip(rows, quality.row_chrf, strict=True)},
        settings=settings.record(),
        seconds=seconds,
        versions=Versions(**used),
    )
