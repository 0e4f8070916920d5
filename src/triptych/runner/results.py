"""What a finished experiment writes: `results.json`, `items.parquet`, and the texts and tokens a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset, Row
from triptych.grid.budgets import cut_demonstrations
from triptych.grid.cells import CellSpec, TrainingSpec
from triptych.metrics.texts import with_values
from triptych.models import TokenizerProfile
from triptych.records import CurvePoint, RunRecord, TuneSummary
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.records.store import write_items, write_json
from triptych.records.texts import write_rows, write_tokens
from triptych.report import build_report, comparisons, interval, summarise_few_shot, text_comparisons
from triptych.report.budgets import most_rows
from triptych.report.crossover import crossovers
from triptych.report.versions import mixed_versions
from triptych.runner.averages import averages
from triptych.runner.folder import FinishedCell
from triptych.runner.session import RunContext
from triptych.training.curve import point_key, read_curve


def write_results(
    run: RunContext,
    cells: Sequence[CellSpec],
    *,
    trainings: Mapping[TrainingSpec, TuneSummary],
    search: SearchRecord | None,
    generations: tuple[GenerationRecord, ...],
) -> RunRecord:
    """Write the records of a run whose cells are all finished, and build its report.

    The cells are in the report's order; of the trainings, the run's first one is first.
    """
    path, finished = run.folder.path, with_texts({cell.name: run.finished[cell.name] for cell in cells}, generations)
    memory = run.session.note_memory()
    record = run_record(run, finished, list(trainings), trainings, search=search, texts=generations, memory=memory)
    write_items(path / "items.parquet", {name: cell.items for name, cell in finished.items()})
    _write_texts(path, finished, run.rows.data, run.rows.profile)
    write_json(path / "results.json", record)
    return build_report(path)


def with_texts(
    finished: Mapping[str, FinishedCell], generations: Sequence[GenerationRecord]
) -> dict[str, FinishedCell]:
    """The cells with what their texts are worth, row by row and on average."""
    cells = dict(finished)
    for one in generations:
        if one.row_metrics and one.cell in cells:
            cell = cells[one.cell]
            items = with_values(cell.items, one.row_metrics)
            record = cell.record.model_copy(update={"aggregate": averages(items)})
            cells[one.cell] = cell._replace(items=items, record=record)
    return cells


def run_record(
    run: RunContext,
    finished: Mapping[str, FinishedCell],
    trainings: Sequence[TrainingSpec],
    tuned: Mapping[TrainingSpec, TuneSummary],
    *,
    search: SearchRecord | None = None,
    texts: tuple[GenerationRecord, ...] = (),
    memory: int | None = None,
) -> RunRecord:
    """What `results.json` holds of these cells and trainings; of those that are not `tuned` yet, the curve so far."""
    config, data, options = run.config, run.rows.data, run.rows.options
    records = tuple(cell.record for cell in finished.values())
    items = {name: cell.items for name, cell in finished.items()}
    curves = {spec: _with_intervals(run.folder.tune_of(spec) / "curve.json") for spec in trainings}
    further = {spec.name: points for spec, points in islice(curves.items(), 1, None) if points or spec in tuned}
    record = RunRecord(
        name=config.name,
        metrics=config.metrics,
        choices=options.same if options else (),
        majority=options.majority(data.test) if options else None,
        cells=records,
        few_shot=summarise_few_shot(most_rows(records)),
        curve=next(iter(curves.values()), ()),
        further_curves=further,
        comparisons=comparisons(most_rows(records), items, config.metrics),
        crossover=crossovers(records, items, config.metrics),
        tune=tuned.get(trainings[0]) if trainings else None,
        trainings=tuple(tuned[spec] for spec in trainings if spec in tuned),
        search=search,
        generations=texts,
        text_comparisons=text_comparisons(texts),
        prompts={name: template.record() for name, template in run.rows.templates.items()},
        warnings=(
            *_sized(config, data),
            *cut_demonstrations(config),
            *data.warnings,
            *(options.warnings(data.test) if options else ()),
        ),
        provenance={
            **run.session.begun,
            "peak_memory_bytes": memory,
            "data": data.files,
            "seeds": _seeds(config),
            "config": config.model_dump(mode="json"),
        },
    )
    # the first to be read: where versions differ, a comparison of cells is one of versions too
    return record.model_copy(update={"warnings": (*mixed_versions(record), *record.warnings)})


def deciding(config: ExperimentConfig) -> dict[str, Any]:
    """The settings that decide numbers. Files, model and prompts are compared by content: paths don't count. Nor do
    metrics and budgets: of one that is added later what is missing is computed.
    """
    settings = config.model_dump(mode="json")
    for section, keys in {
        "data": ("dir", "train", "test", "choices"),
        "model": ("name", "revision", "threads", "allow_pickle"),
    }.items():
        for key in keys:
            del settings[section][key]
    for key in ("name", "prompts", "cache", "report", "metrics", "budgets", "budget_seeds", "cross_seeds"):
        del settings[key]
    return settings


def _write_texts(path: Path, finished: Mapping[str, FinishedCell], data: Dataset, profile: TokenizerProfile) -> None:
    """What a report needs to show rows: their texts, and each scored token's text and NLL."""
    write_rows(path / "rows.parquet", {"test": data.test, "demo": demos_shown(finished, data)})
    pieces = token_pieces(data, profile)
    write_tokens(path / "tokens.parquet", pieces, {name: cell.token_nll for name, cell in finished.items()})


def _sized(config: ExperimentConfig, data: Dataset) -> list[str]:
    """How many rows a run used that had to end within a time, if not all."""
    if config.within is None or all(file["n_rows_used"] == file["n_rows"] for file in data.files.values()):
        return []
    used = [f"{file['n_rows_used']} of {file['n_rows']} {role} rows" for role, file in data.files.items()]
    return [
        f"this run had to end within {config.within}, and used {', '.join(used)}. Intervals are wider than with all "
        "rows, and a training on more rows may do better"
    ]


def demos_shown(finished: Mapping[str, FinishedCell], data: Dataset) -> list[Row]:
    """The training rows that some prompt shows."""
    shown = {demo for cell in finished.values() for item in cell.items for demo in item.demo_ids}
    return [row for row in data.train if row.id in shown]


def token_pieces(data: Dataset, profile: TokenizerProfile) -> dict[str, list[tuple[str, int]]]:
    """Test row -> the texts of its scored tokens."""
    return {row.id: profile.pieces([*profile.encode(row.target()), profile.eos_id]) for row in data.test}


def _seeds(config: ExperimentConfig) -> dict[str, Any]:
    few, qlora = config.strategies.few_shot, config.strategies.qlora
    trained = list(qlora.seeds) if qlora and qlora.seeds else config.tune.seed
    return {"demonstrations": list(few.seeds) if few else [], "tune": trained, "data": config.data.seed}


def _with_intervals(path: Path) -> tuple[CurvePoint, ...]:
    """The curve, each point with the interval of its mean where its rows were recorded."""
    points, row_ppl = read_curve(path)
    bounds = {name: interval(rows) for name, rows in row_ppl.items()}
    none = (None, None)
    return tuple(
        point.model_copy(update=dict(zip(("ci_low", "ci_high"), bounds.get(point_key(point), none), strict=True)))
        for point in points
    )
