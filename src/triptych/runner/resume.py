"""What an earlier process left in a run's folder: used if it was made from what is asked for, else refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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
    """Check that a version of Triptych that recorded what work is made from wrote the folder's lock.

    Raises:
        RunChangedError: the lock is missing, or an earlier version of Triptych wrote it.
    """
    work = folder.work()
    if not work:
        return
    put_back(folder.lock)
    fix = "give another folder with --out; or start over with --fresh, which removes what was computed here"
    if not folder.lock.exists():
        raise RunChangedError(
            "the folder's lock is missing, so what its numbers were made with is unknown",
            where=str(folder.lock),
            found=f"{', '.join(work)} without {folder.lock.name}",
            fix=fix,
        )
    try:
        lock = read_json(folder.lock)
    except DataError:  # torn: an error where its facts are compared
        return
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
    """Check that the finished cells and trainings of the folder are those asked for. Returns the cells.

    Raises:
        RunChangedError: something there was made from something else.
        ModelError: an adapter was changed after its training.
    """
    finished = finished_cells(cells, folder, facts)
    trained = [finished_adapter(training, folder, facts) for training in trainings(facts.config)]
    _warn_of_versions(list(finished.values()), [summary for summary in trained if summary], reporter)
    return finished


def finished_cells(cells: Iterable[CellSpec], folder: RunFolder, facts: RunFacts) -> dict[str, FinishedCell]:
    """The cells that were scored before, from the facts that are asked for now.

    Raises:
        RunChangedError: one was made from something else.
    """
    finished = {}
    for cell in cells:
        stored, path = folder.load_cell(cell.name), folder.cell_path(cell.name)
        if stored is None or len(stored.items) != len(facts.data.test):
            continue
        require_same(
            {"identity": stored.record.identity, "made_from": stored.made_from},
            facts.cell(cell),
            where=str(path),
            what="this finished cell",
            fix=f"to score it anew, delete {path}; or give another folder with --out, or start over with --fresh",
        )
        if facts.options_sha256 not in (None, stored.record.options_sha256):
            continue  # accuracy was asked for since, or among other options
        finished[cell.name] = stored
    return finished


def finished_adapter(training: TrainingSpec, folder: RunFolder, facts: RunFacts) -> TuneSummary | None:
    """The summary of a finished training whose adapter is there and whole; None where something is left to do.

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
    """Check that a finished cell was scored with the adapter that its training made.

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


def _warn_of_versions(finished: Sequence[FinishedCell], trained: Sequence[TuneSummary], reporter: Reporter) -> None:
    """Warn in one line that what is finished was computed with other versions than this process has."""
    now = versions()
    recorded = [*(cell.record.versions for cell in finished), *(training.versions for training in trained)]
    changed = [version_changes(then.named(), now) for then in recorded if then is not None]
    if any(changed):
        reporter.warn(
            f"{sum(map(bool, changed))} of {len(changed)} finished cells and trainings were computed with other "
            f"versions, and are kept: {', '.join(dict.fromkeys(change for each in changed for change in each))}"
        )
