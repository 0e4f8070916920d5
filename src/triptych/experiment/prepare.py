"""Before the first forward pass: read everything, check everything, lock the folder, find what is done already.

templates, rows  ─►  settings that fit them?  ─►  folder's locks  ─►  what is finished  ─►  rows as the model sees them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.data import Dataset
from triptych.errors import DataError, InputError
from triptych.experiment.cells import CellSpec, check_pool, demo_pool, templates_of
from triptych.experiment.checks import adapter_facts, begin
from triptych.experiment.config import ExperimentConfig
from triptych.experiment.folder import FinishedCell, RunFolder
from triptych.experiment.made_from import RunFacts, model_of_lock
from triptych.experiment.results import deciding
from triptych.experiment.resume import check_lock, take_up
from triptych.experiment.session import Session
from triptych.experiment.showing import Demonstrations
from triptych.experiment.views import longest_rendering, read_data, view_experiment
from triptych.experiment.writing import check_names
from triptych.models import identify, load_profile
from triptych.progress import Watcher
from triptych.prompts import Template
from triptych.records.lock import hold_to
from triptych.records.process_lock import ProcessLock
from triptych.records.store import sweep

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
    owner: ProcessLock | None = None,
    fresh: bool = False,
    chosen: Mapping[str, Any] | None = None,
    scores: Path | None = None,
    writes: bool = True,
) -> Prepared:
    """Find everything that can be wrong with a run, and begin it.

    Args:
        config: what to run.
        cells: the grid, or what is asked for of it.
        folder: the run's.
        watcher: told of warnings.
        owner: the lock that keeps other processes out of the folder; taken before anything in it is changed.
        fresh: remove what an earlier run left, first.
        chosen: what another run found when it began (dtype, threads, ...), to be taken instead of finding it.
        scores: file of the scores that are known, instead of the user's cache.
        writes: False on the ranks that only train.

    Raises:
        RunBusyError: another process works in the folder.
        InputError: something is wrong; the folder is as it was.
    """
    templates = templates_of(config)
    data = read_data(config, watcher)
    check_pool(config, data)
    _check_dev(config, data)
    if config.generate:
        check_names(config.generate, cells)
    for warning in data.warnings:
        watcher.say(f"warning: {warning}")
    identity = identify(config.model.spec())
    if writes:
        _open(folder, owner, fresh=fresh)
    locked = {
        "config": deciding(config),
        "data": {role: of_file["sha256"] for role, of_file in data.files.items()},
        "prompts": {name: template.sha256 for name, template in templates.items()},
        "model": model_of_lock(templates, identity),
    }
    held = hold_to(folder.lock, locked)
    if chosen and "chosen" not in held:
        held["chosen"] = dict(chosen)
    session = Session(config, folder, watcher, held, scores=scores, writes=writes)
    facts = RunFacts(config, data, templates, identity, session.compute)
    rows = [*data.train, *data.dev, *data.test]
    demonstrations = Demonstrations(demo_pool(data), config.strategies.demos, vectors=lambda: session.vectors(rows))
    finished = take_up(cells, folder, facts, data, watcher) if writes else {}
    if finished:
        watcher.say(f"{len(finished)} of {len(cells)} cells are already scored")
    if writes and len(finished) < len(cells):
        try:
            _check_rows(config, data, templates, demonstrations, folder, watcher)
        except InputError:
            if not folder.holds_work():
                folder.lock.unlink(missing_ok=True)
            raise
    return Prepared(data, templates, session, demonstrations, facts, finished)


def _open(folder: RunFolder, owner: ProcessLock | None, *, fresh: bool) -> None:
    """Make the folder ours: no other process in it, nothing of another run under our lock."""
    if owner is not None:
        owner.acquire()
    sweep(folder.path)
    if fresh:
        folder.clear()
    elif folder.lock.exists() and not folder.holds_work():
        folder.lock.unlink()  # a run that failed to begin may begin with other settings
    check_lock(folder)


def _check_rows(
    config: ExperimentConfig,
    data: Dataset,
    templates: Mapping[str, Template],
    demonstrations: Demonstrations,
    folder: RunFolder,
    watcher: Watcher,
) -> None:
    profile = load_profile(config.model.spec())
    views = view_experiment(
        config,
        data,
        templates,
        profile,
        max_tokens=longest_rendering(config, profile),
        demonstrations=demonstrations,
        watcher=watcher,
    )
    begin(views, watcher, adapters=adapter_facts(config, folder.path))


def _check_dev(config: ExperimentConfig, data: Dataset) -> None:
    given = config.strategies
    for section, wanted, what in (
        ("tune.select", given.qlora and config.tune.select == "dev", "the best checkpoint is"),
        ("strategies.search", given.search, "prompt and demonstrations are"),
    ):
        if wanted and not data.dev:
            raise DataError(
                f"{what} to be chosen on dev rows, and there are none",
                where=section,
                found="data.dev_rows: 0",
                fix="set data.dev_rows to a few hundred"
                + (", or use `select: last`" if section == "tune.select" else ""),
            )
