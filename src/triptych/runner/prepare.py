"""Before the first forward pass: read everything, check everything, lock the folder, read what is finished.

templates, rows  ─►  settings that fit them?  ─►  tokenizer: rows as the model sees them
    ─►  weights identified, downloaded if need be  ─►  the folder's lock  ─►  what is finished
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.checks.adapters import adapter_facts
from triptych.checks.rows import begin
from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset
from triptych.errors import DataError, ModelError
from triptych.grid.cells import CellSpec, trainings
from triptych.grid.rendered import render_experiment
from triptych.grid.rows import ExperimentRows
from triptych.models import identify
from triptych.progress import Reporter
from triptych.records.disk import is_there
from triptych.records.identity import check_lock
from triptych.records.manifest import Manifest, remove
from triptych.records.outputs import check_not_read
from triptych.records.set_aside import check_no_links
from triptych.records.store import copy_of, read_json, sweep
from triptych.runner.folder import RunFolder
from triptych.runner.made_from import RunFacts, model_of_lock
from triptych.runner.results import deciding
from triptych.runner.resume import check_lock_version, take_up
from triptych.runner.session import RunContext, Session
from triptych.runner.written_cells import check_names, check_room


def prepare(
    config: ExperimentConfig,
    cells: Sequence[CellSpec],
    folder: RunFolder,
    reporter: Reporter,
    *,
    enter: Callable[[], Manifest] | None = None,
    fresh: bool = False,
    runtime_choices: Mapping[str, Any] | None = None,
    scores: Path | None = None,
) -> RunContext:
    """Find everything that can be wrong with a run, and begin it.

    Args:
        config: what to run.
        cells: the grid, or what is asked for of it.
        folder: the run's.
        reporter: told of warnings.
        enter: locks the folder for this process and returns its manifest; called before anything in it is changed. None
            on the ranks that only train.
        fresh: remove what an earlier run left, when all checks have passed; it is set aside until there is new work.
        runtime_choices: what another run chose when it began (dtype, threads, ...), to be used here.
        scores: file of scores to look up, instead of the user's cache.

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write is where one of the run's belongs.
        InputError: something is wrong; the folder is as it was.
    """
    if config.generate:
        check_names(config.generate, cells)
    rows = ExperimentRows.read(
        config, reporter=reporter, vectors=lambda: session.vectors([*data.train, *data.dev, *data.test])
    )
    data, templates = rows.data, rows.templates
    for warning in (*data.warnings, *(rows.options.warnings(data.test) if rows.options else ())):
        reporter.warn(warning)
    facts_of_lock: dict[str, Any] = {
        "config": deciding(config),
        "data": {role: of_file["sha256"] for role, of_file in data.files.items()},
        "prompts": {name: template.sha256 for name, template in templates.items()},
    }
    if not fresh:
        facts_of_lock["config"]["generate"] = _written_as_locked(facts_of_lock["config"]["generate"], folder.lock)
    writes, is_new = enter is not None, not is_there(folder.path, Path.is_dir)
    if enter is not None and not is_new:
        _open(config, cells, folder, data, enter(), fresh=fresh)
        if not fresh and folder.lock.exists():
            check_lock(folder.lock, facts_of_lock)
    checked = writes and (fresh or not all(is_there(folder.cell_path(cell.name)) for cell in cells))
    if checked:
        _check_rows(rows, None if fresh else folder, reporter)
    identity = identify(config.model)  # after all checks that need no weights: it may download them
    _check_tokenizer(rows, identity)
    if enter is not None and is_new:
        _open(config, cells, folder, data, enter(), fresh=fresh)
    facts_of_lock["model"] = model_of_lock(templates, identity)
    lock = dict(facts_of_lock) if fresh else check_lock(folder.lock, facts_of_lock)
    if runtime_choices and "chosen" not in lock:
        lock["chosen"] = dict(runtime_choices)
    session = Session(config, folder, reporter, lock, scores=scores, writes=writes, locked=not fresh)
    facts = RunFacts(rows, identity, session.compute)
    finished = take_up(cells, folder, facts, reporter) if writes and not fresh else {}
    if finished:
        reporter.info(f"{len(finished)} of {len(cells)} cells are already scored")
    if writes and not checked and len(finished) < len(cells):  # a cell's file is there, and torn
        _check_rows(rows, folder, reporter)
    if writes and fresh:
        folder.set_aside()
        check_lock(folder.lock, lock)
        session.locked()
    return RunContext(config, folder, reporter, rows, session, facts, finished)


def _written_as_locked(asked: dict[str, Any] | None, lock: Path) -> dict[str, Any] | None:
    """The section `generate` to compare with the lock: the lock's own where only the cells to write are others.

    Texts can be added, left out and written in other cells: they decide no other number, and each file of them says
    what made it.
    """
    try:
        locked = read_json(lock)["config"]["generate"]
    except (DataError, OSError, LookupError, TypeError):  # none there, or torn: an error where it is compared
        return asked
    if locked is None:
        return None
    if not isinstance(locked, dict):
        return asked
    return locked if asked is None else {**asked, "cells": locked.get("cells")}


def _open(
    config: ExperimentConfig,
    cells: Sequence[CellSpec],
    folder: RunFolder,
    data: Dataset,
    manifest: Manifest,
    *,
    fresh: bool,
) -> None:
    """Check that the run can write here: no file of the user's, none that is read, and no other run is in the way."""
    sweep(folder.path)
    outputs = list(folder.outputs([cell.name for cell in cells], trainings(config), texts=config.generate is not None))
    manifest.check_free(outputs)
    read = {f"data.{role}": of_file.get("path") for role, of_file in data.files.items()}
    ours = [folder.path / name for name in [*outputs, *manifest.files] if "*" not in name]
    check_not_read(ours, read, what="the run")
    if fresh:
        check_no_links(manifest)
        return
    if folder.lock.exists() and not folder.work():
        remove(folder.lock)
        remove(copy_of(folder.lock))  # a run that failed to begin may begin with other settings
    check_lock_version(folder)


def _check_rows(rows: ExperimentRows, folder: RunFolder | None, reporter: Reporter) -> None:
    adapters = adapter_facts(rows.config, folder.adapter_of if folder else None)
    begin(render_experiment(rows, reporter), reporter, adapters=adapters)
    check_room(rows)


def _check_tokenizer(rows: ExperimentRows, identity: Mapping[str, str]) -> None:
    """Check that the rows are rendered with the tokenizer that the model is identified by."""
    read = rows.profile.record()
    if changed := [key for key in ("tokenizer_sha256", "chat_template_sha256") if read.get(key) != identity.get(key)]:
        raise ModelError(
            "the model's tokenizer was changed while the rows were checked",
            where=rows.config.model.name,
            found=f"another {' and '.join(changed)}",
            fix="run the same command again when nothing writes to the model's files",
        )
