"""What the model writes in a run's cells (`generate:`), beside the perplexities: texts, chrF++ and BLEU.

    predictions/CELL.json           [{"id", "output"}], the test rows in their order
    predictions/CELL.record.json    what made them, what ended each row, the check, chrF++ of each row

`decode` begins a file and resumes it, here and for `triptych predict`; finished files are never written again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.config.generate import DecodingConfig, GenerateConfig
from triptych.data import Row
from triptych.errors import TriptychError
from triptych.generate.check import Check, check_predictions
from triptych.generate.engine import generate_rows
from triptych.generate.plan import Limits, choose_limits
from triptych.generate.quality import measure_quality
from triptych.generate.record import finished_rows, prompt_texts, record_of, special_texts, write_predictions
from triptych.generate.resume_file import PartFile, part_of
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import patterns_of
from triptych.grid.cells import CellSpec
from triptych.likelihood.cache import versions
from triptych.metrics.texts import score_texts
from triptych.models import LoadedModel, adapter_enabled, adapter_is_on
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt, Template
from triptych.records.identity import joined_versions, version_changes
from triptych.records.manifest import remove
from triptych.records.schema import GenerationRecord, Versions
from triptych.records.store import read_json
from triptych.runner.session import RunContext


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
