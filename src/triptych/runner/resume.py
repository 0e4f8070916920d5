"""What an earlier process left in a run's folder: taken up where it was made from what is asked for, refused by name
where it was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.errors import DataError, RunChangedError
from triptych.grid.cells import CellSpec, TrainingSpec, trainings
from triptych.likelihood.cache import versions
from triptych.models.adapter_checks import check_adapter_files
from triptych.progress import Reporter
from triptych.records import TuneSummary
from triptych.records.identity import require_same, version_changes
from triptych.records.run_files import ADAPTER_RECORD
from triptych.records.store import put_back, read_json
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.made_from import RunFacts
from triptych.training import read_summary


def check_lock_version(folder: RunFolder) -> None:
    """See that the folder's work is under a lock of a version that recorded what it was made from.

    Raises:
        RunChangedError: the lock is missing, or an earlier version of Triptych wrote it.
    """
    if not folder.holds_work():
        return
    put_back(folder.lock)
    fix = "give another folder with --out; or start over with --fresh, which removes what was computed here"
    if not folder.lock.exists():
        raise RunChangedError(
            "the folder's lock is missing, so what its numbers were made with can't be known",
            where=str(folder.lock),
            found=f"{', '.join(folder.work())} without {folder.lock.name}",
            fix=fix,
        )
    lock = _lock(folder.lock)
    if isinstance(lock, Mapping) and "config_sha256" not in lock.get("model", {}):
        raise RunChangedError(
            "an earlier version of Triptych began this run, and did not record what its cells were made from",
            where=str(folder.lock),
            found=f"Triptych {lock.get('begun', {}).get('triptych', 'of an unknown version')}, no model.config_sha256",
            fix=f"{fix}; or finish it with the version that began it (`triptych report` reads it as it is)",
        )


def take_up(
    cells: Iterable[CellSpec], folder: RunFolder, facts: RunFacts, reporter: Reporter
) -> dict[str, FinishedCell]:
    """What is finished in the folder, cells and trainings, seen to be what is asked for. Returns the cells.

    Raises:
        RunChangedError: something there was made from something else.
        ModelError: an adapter was changed after its training.
    """
    finished = finished_cells(cells, folder, facts)
    trained = [finished_adapter(training, folder, facts) for training in trainings(facts.config)]
    _say_other_versions(list(finished.values()), [summary for summary in trained if summary], reporter)
    return finished


def finished_cells(cells: Iterable[CellSpec], folder: RunFolder, facts: RunFacts) -> dict[str, FinishedCell]:
    """The cells that were scored before, from the facts that are asked for now.

    Raises:
        RunChangedError: one was made from something else.
    """
    found = {}
    for cell in cells:
        known = folder.load_cell(cell.name)
        if known is None or len(known.items) != len(facts.data.test):
            continue
        path = folder.cell_path(cell.name)
        require_same(
            {"identity": known.record.identity, "made_from": known.made_from},
            facts.cell(cell),
            where=str(path),
            what="this finished cell",
            fix=f"to score it anew, delete {path}; or give another folder with --out, or start over with --fresh",
        )
        found[cell.name] = known
    return found


def finished_adapter(training: TrainingSpec, folder: RunFolder, facts: RunFacts) -> TuneSummary | None:
    """What a finished training did, if its adapter lies whole in its place; None where there is something left to do.

    Raises:
        RunChangedError: the training, or the adapter, was made from something else than is asked for.
        ModelError: the adapter's files were changed after the training.
    """
    made_from, final = facts.training(training), folder.adapter_of(training)
    summary = read_summary(folder.tune_of(training), made_from)
    if summary is None or not (final / ADAPTER_RECORD).exists():
        return None  # triptych.json is written last: a kill while the weights were copied leaves none
    fix = (
        f"delete {final}: the same command then writes it again from the training's last checkpoint, and keeps all else"
    )
    record = check_adapter_files(final, fix=fix)
    require_same(record, made_from, where=str(final / ADAPTER_RECORD), what="this adapter", fix=fix)
    if record.get("adapter_sha256") != summary.adapter_sha256 or "files" not in record:
        raise RunChangedError(
            "this adapter is not the one that the run's training made",
            where=str(final),
            found=f"adapter {str(record.get('adapter_sha256'))[:12]}…",
            expected=f"adapter {summary.adapter_sha256[:12]}…, as {folder.tune_of(training) / 'summary.json'} says",
            fix=fix,
        )
    return summary


def check_adapter_of_cell(cell: FinishedCell, training: TuneSummary, path: Path) -> None:
    """See that a finished cell was scored with the adapter that its training made.

    Raises:
        RunChangedError: it was scored with another one.
    """
    if cell.record.adapter_sha256 != training.adapter_sha256:
        raise RunChangedError(
            "this finished cell was scored with another adapter than its training's",
            where=str(path),
            found=f"adapter {str(cell.record.adapter_sha256)[:12]}…",
            expected=f"adapter {training.adapter_sha256[:12]}…",
            fix=f"to score it anew, delete {path}",
        )


def _say_other_versions(finished: Sequence[FinishedCell], trained: Sequence[TuneSummary], reporter: Reporter) -> None:
    """Say in one line that what is finished was computed with other versions than this process has."""
    now = versions()
    kept = [*(cell.record.versions for cell in finished), *(training.versions for training in trained)]
    every = [one.named() for one in kept if one is not None]
    other = [then for then in every if version_changes(then, now)]
    if other:
        changed = dict.fromkeys(change for then in other for change in version_changes(then, now))
        reporter.warn(
            f"{len(other)} of {len(every)} finished cells and trainings were computed with other versions, "
            f"and are kept: {', '.join(changed)}"
        )


def _lock(path: Path) -> Any:
    """The lock; None where it is torn, which is said where its facts are compared."""
    try:
        return read_json(path)
    except DataError:
        return None
