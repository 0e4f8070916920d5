"""Before the first forward pass: read everything, check everything, lock the folder, find what is done already.

templates, rows  ─►  settings that fit them?  ─►  folder's locks  ─►  what is finished  ─►  rows as the model sees them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.checks.rows import adapter_facts, begin
from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset
from triptych.errors import InputError
from triptych.grid.cells import CellSpec, check_pool, demo_pool, templates_of, trainings
from triptych.grid.rendering import Demonstrations
from triptych.grid.views import longest_rendering, read_data, view_experiment
from triptych.models import identify, load_profile
from triptych.progress import Watcher
from triptych.prompts import Template
from triptych.records.copies import copy_of
from triptych.records.lock import hold_to
from triptych.records.manifest import Manifest, remove
from triptych.records.outputs import check_not_read
from triptych.records.store import sweep
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.generation import check_names
from triptych.runner.made_from import RunFacts, model_of_lock
from triptych.runner.results import deciding
from triptych.runner.resume import check_lock, take_up
from triptych.runner.session import Session

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What a run works with."""

    data: Dataset
    templates: dict[str, Template]
    session: Session
    demonstrations: Demonstrations
    facts: RunFacts
    """From what each of its records is made."""
    finished: dict[str, FinishedCell]
    """Cells that were scored before."""


def prepare(
    config: ExperimentConfig,
    cells: Sequence[CellSpec],
    folder: RunFolder,
    watcher: Watcher,
    *,
    enter: Callable[[], Manifest] | None = None,
    fresh: bool = False,
    chosen: Mapping[str, Any] | None = None,
    scores: Path | None = None,
) -> Prepared:
    """Find everything that can be wrong with a run, and begin it.

    Args:
        config: what to run.
        cells: the grid, or what is asked for of it.
        folder: the run's.
        watcher: told of warnings.
        enter: makes the folder this process's and gives its manifest; called before anything in it is changed. None on
            the ranks that only train.
        fresh: remove what an earlier run left, when all checks have passed; it is set aside until there is new work.
        chosen: what another run found when it began (dtype, threads, ...), to be taken instead of finding it.
        scores: file of the scores that are known, instead of the user's cache.

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write lies where one of the run's belongs.
        InputError: something is wrong; the folder is as it was.
    """
    templates = templates_of(config)
    data = read_data(config, watcher)
    check_pool(config, data)
    if config.generate:
        check_names(config.generate, cells)
    for warning in data.warnings:
        watcher.say(f"warning: {warning}")
    writes = enter is not None
    identity = identify(config.model)
    if enter is not None:
        _open(config, cells, folder, data, enter(), fresh=fresh)
    locked = {
        "config": deciding(config),
        "data": {role: of_file["sha256"] for role, of_file in data.files.items()},
        "prompts": {name: template.sha256 for name, template in templates.items()},
        "model": model_of_lock(templates, identity),
    }
    held = dict(locked) if fresh else hold_to(folder.lock, locked)
    if chosen and "chosen" not in held:
        held["chosen"] = dict(chosen)
    session = Session(config, folder, watcher, held, scores=scores, writes=writes, locked=not fresh)
    facts = RunFacts(config, data, templates, identity, session.compute)
    rows = [*data.train, *data.dev, *data.test]
    demonstrations = Demonstrations(demo_pool(data), config.strategies.demos, vectors=lambda: session.vectors(rows))
    finished = take_up(cells, folder, facts, data, watcher) if writes and not fresh else {}
    if finished:
        watcher.say(f"{len(finished)} of {len(cells)} cells are already scored")
    if writes and len(finished) < len(cells):
        try:
            _check_rows(config, data, templates, demonstrations, None if fresh else folder, watcher)
        except InputError:
            if not fresh and not folder.holds_work():
                remove(folder.lock)
                remove(copy_of(folder.lock))
            raise
    if writes and fresh:
        folder.set_aside()
        hold_to(folder.lock, held)
        session.locked()
    return Prepared(data, templates, session, demonstrations, facts, finished)


def _open(
    config: ExperimentConfig,
    cells: Sequence[CellSpec],
    folder: RunFolder,
    data: Dataset,
    manifest: Manifest,
    *,
    fresh: bool,
) -> None:
    """See that the folder can be ours: no file of the user's, nor one that is read, nor another run, in our way."""
    sweep(folder.path)
    outputs = list(folder.outputs([cell.name for cell in cells], trainings(config), texts=config.generate is not None))
    manifest.check_free(outputs)
    read = {f"data.{role}": of_file.get("path") for role, of_file in data.files.items()}
    ours = [folder.path / name for name in [*outputs, *manifest.files] if "*" not in name]
    check_not_read(ours, read, option="--out", what="the run")
    if fresh:
        folder.check_removable(manifest)
        return
    if folder.lock.exists() and not folder.holds_work():
        remove(folder.lock)
        remove(copy_of(folder.lock))  # a run that failed to begin may begin with other settings
    check_lock(folder)


def _check_rows(
    config: ExperimentConfig,
    data: Dataset,
    templates: Mapping[str, Template],
    demonstrations: Demonstrations,
    folder: RunFolder | None,
    watcher: Watcher,
) -> None:
    profile = load_profile(config.model)
    views = view_experiment(
        config,
        data,
        templates,
        profile,
        max_tokens=longest_rendering(config, profile),
        demonstrations=demonstrations,
        watcher=watcher,
    )
    begin(views, watcher, adapters=adapter_facts(config, folder.adapter_of if folder else None))
