"""What the model writes in a run's cells (`generate:`), beside the perplexities: texts, chrF++ and BLEU.

    predictions/CELL.json           [{"id", "output"}], the test rows in their order
    predictions/CELL.record.json    what made them, what ended each row, the check, chrF++ of each row

A cell's file is begun and gone on with as `triptych predict` does it; finished ones are never written again.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.config.generate import DecodingConfig, GenerateConfig
from triptych.data import Row
from triptych.errors import ConfigError, TriptychError
from triptych.generate.check import check_predictions
from triptych.generate.engine import generate_rows
from triptych.generate.plan import Limits, choose_limits
from triptych.generate.quality import measure_quality
from triptych.generate.record import finished_rows, prompt_texts, record_of, special_texts, write_predictions
from triptych.generate.resume_file import PartFile, part_of
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import patterns_of
from triptych.grid.cells import CellSpec
from triptych.likelihood.cache import versions
from triptych.models import adapter_enabled, adapter_is_on
from triptych.prompts import RenderedPrompt, Template
from triptych.records.identity import joined_versions, version_changes
from triptych.records.manifest import remove
from triptych.records.schema import GenerationRecord, Versions
from triptych.records.store import read_json
from triptych.runner.context import RunContext
from triptych.runner.folder import FinishedCell


def check_names(config: GenerateConfig, cells: Sequence[CellSpec]) -> None:
    """Say before any work that a cell isn't there.

    Raises:
        ConfigError: `generate.cells` names a cell that the grid doesn't have.
    """
    names = [cell.name for cell in cells]
    for name in () if isinstance(config.cells, str) else config.cells:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                "texts are asked for from a cell that the experiment doesn't have",
                where="generate.cells",
                found=name,
                expected=", ".join(names),
                fix=f"did you mean `{near[0]}`?" if near else None,
            )


def to_write(config: GenerateConfig, cells: Sequence[CellSpec], finished: Mapping[str, FinishedCell]) -> list[CellSpec]:
    """The cells whose texts are wanted: `best` is the best prompt, the best demonstrations, and each training as it was
    trained.
    """
    if config.cells == "all":
        return list(cells)
    if config.cells != "best":
        return [cell for cell in cells if cell.name in config.cells]

    def ppl(cell: CellSpec) -> float:
        return finished[cell.name].record.aggregate.ppl_mean

    wanted: list[CellSpec] = []
    for strategy in ("zero_shot", "few_shot"):
        of_it = [cell for cell in cells if cell.strategy == strategy and cell.name in finished]
        wanted += [min(of_it, key=ppl)] if of_it else []
    trained: dict[str, CellSpec] = {}
    for cell in cells:
        if cell.training:
            trained.setdefault(cell.training.name, cell)  # the first is the training's own prompt and demonstrations
    return [*wanted, *trained.values()]


def write_cell(run: RunContext, cell: CellSpec) -> GenerationRecord:
    """Write a cell's texts, or go on with them; read them if they are there.

    Raises:
        RunChangedError: texts of other settings are there.
        ModelError: a prompt leaves no room for an output.
    """
    config = run.config.generate
    assert config is not None
    rows = run.rows.data.test[: config.rows]
    template, out = run.rows.templates[cell.prompt], run.folder.predictions_of(cell.name)
    adapter_sha256 = run.finished[cell.name].record.adapter_sha256
    settings = _settings(config, template, cell.k)
    facts = {
        "cell": cell.name,
        "identity": run.facts.cell(cell).sha256,
        "adapter_sha256": adapter_sha256,
        "prompt_sha256": template.sha256,
        "rows": [row.id for row in rows],
        "generation": settings.record(),
    }
    if out.exists() and record_of(out).exists():
        finished_rows(out, facts, fix=_anew(out, record_of(out)))  # refuses texts of other settings
        return GenerationRecord.model_validate(read_json(record_of(out))["summary"])
    loaded, _ = run.session.load()
    adapter = run.attach(cell.training)
    prompts = run.rows.prompts(cell, rows, reserve=settings.max_new_tokens)
    began = time.perf_counter()
    with adapter_enabled(adapter, on=adapter is not None):
        if adapter_is_on(loaded.model) != (adapter_sha256 is not None):
            raise TriptychError(f"the adapter is {'off' if adapter_sha256 else 'on'} for the texts of {cell.name}")
        written, used = _generate(run, cell, prompts, facts, settings)
    seconds, special = time.perf_counter() - began, special_texts(loaded.profile.tokenizer)
    summary = _summary(cell, rows, written, template, settings, seconds, special)
    summary = summary.model_copy(update={"versions": Versions(**used)})
    write_predictions(out, written, {"facts": facts, "summary": summary.model_dump(mode="json")})
    remove(part_of(out))
    return summary


def _generate(
    run: RunContext,
    cell: CellSpec,
    prompts: Sequence[RenderedPrompt],
    facts: Mapping[str, Any],
    settings: GenerationSettings,
) -> tuple[list[Generated], dict[str, str]]:
    """The rows, and the versions that wrote them."""
    loaded, _ = run.session.load()
    path = part_of(run.folder.predictions_of(cell.name))
    part = PartFile.resume(path, facts, fix=_anew(path))
    if part is None:
        part = PartFile.begin(path, facts, {"limits": choose_limits(loaded).record(), "versions": versions()})
    elif changed := version_changes(part.chosen.get("versions", {}), versions()):
        run.reporter.warn(f"the texts of {cell.name} were begun with other versions: {', '.join(changed)}")
    run.reporter.info(f"writing {len(prompts)} rows of {cell.name}")
    try:
        limits = Limits(**part.chosen["limits"])
        rows = generate_rows(loaded, prompts, settings, run.reporter, part.add, known=part.known, limits=limits)
        return rows, joined_versions([part.chosen.get("versions", {}), versions()])
    finally:
        part.close()


def _anew(*paths: Path) -> str:
    """How to have a cell's texts anew, without a loss of anything else."""
    named = " and ".join(map(str, paths))
    return f"delete {named}: the same command then writes these texts again, and keeps all else"


def _settings(config: GenerateConfig, template: Template, k: int) -> GenerationSettings:
    chosen = config.model_dump(include=set(DecodingConfig.model_fields))
    return GenerationSettings(**chosen, stop_patterns=patterns_of(template, shots=k) if config.stop_texts else ())


def _summary(
    cell: CellSpec,
    rows: Sequence[Row],
    written: Sequence[Generated],
    template: Template,
    settings: GenerationSettings,
    seconds: float,
    special: Sequence[str],
) -> GenerationRecord:
    ends = {row.row_id: row.stopped_by for row in written}
    texts = [(row.row_id, row.text) for row in written]
    check = check_predictions(texts, rows, stopped_by=ends, special=special, prompt_texts=prompt_texts(template))
    quality = measure_quality([row.text for row in written], [row.target() for row in rows])
    return GenerationRecord(
        cell=cell.name,
        n_rows=len(rows),
        n_tokens=sum(row.n_tokens for row in written),
        stopped_by={kind: sum(end == kind for end in ends.values()) for kind in sorted(set(ends.values()))},
        findings={finding.kind: len(finding.row_ids) for finding in check.findings},
        chrf=quality.chrf,
        bleu=quality.bleu,
        chrf_signature=quality.chrf_signature,
        bleu_signature=quality.bleu_signature,
        row_chrf={row.id: value for row, value in zip(rows, quality.row_chrf, strict=True)},
        settings=settings.record(),
        seconds=seconds,
    )
