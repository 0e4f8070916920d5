"""A run's folder may hold the user's files too: only what Triptych wrote there is replaced or removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import DataError, ForeignFileError, RunBusyError, RunChangedError
from triptych.models.load import load_model
from triptych.records import RunRecord
from triptych.records.manifest import Manifest
from triptych.records.process_lock import ProcessLock
from triptych.records.set_aside import AWAY
from triptych.records.store import read_run
from triptych.report import build, build_report
from triptych.runner import session
from triptych.runner.folder import RunFolder
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
ONE = {"strategies": {"zero_shot": {"prompts": ["default"]}, "few_shot": None, "qlora": None}}
FOLDERS = ("cells", "figures", "tables", "adapter", "predictions", "tune", "trainings", "trackers")


def run(path: Path, out: Path, *sets: str, fresh: bool = False) -> RunRecord:
    return run_experiment(read_config(path, sets), out, fresh=fresh)


def everything(folder: Path, *but: str) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in but]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def put_mine(folder: Path) -> dict[str, bytes]:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for mine in ("mine.txt", "mine.csv", "mine.json", "mine.tex"):
            (folder / name / mine).write_text("MINE")
    return {f"{name}/mine.{kind}": b"MINE" for name in FOLDERS for kind in ("txt", "csv", "json", "tex")}


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run of one's own: (its YAML, its folder)."""
    shutil.copytree(undisturbed.parent, tmp_path / "copy")
    return tmp_path / "copy" / "experiment.yaml", tmp_path / "copy" / "run"


def test_the_manifest_names_each_file_of_a_run(undisturbed: Path) -> None:
    manifest = Manifest.read(undisturbed)
    assert manifest is not None
    assert set(everything(undisturbed, "manifest.json")) == set(manifest.files)
    assert not any(manifest.edited(name) for name in manifest.files)


def test_files_of_the_users_outlive_run_fresh_and_report(project: Project, tmp_path: Path, no_report: None) -> None:
    path, out = project(**ONE), tmp_path / "paper"
    mine = put_mine(out)
    run(path, out)
    run(path, out, fresh=True)
    assert mine.items() <= everything(out).items()


@pytest.mark.parametrize(
    "name",
    ["report.md", "results.json", "run.log", "manifest.json", "tables/cells.csv", "cells/zero_shot__default.json"],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_in_the_way_stops_a_run_before_it_begins(
    name: str, fresh: bool, project: Project, tmp_path: Path
) -> None:
    path, out = project(**ONE), tmp_path / "paper"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"mine": true}')
    with pytest.raises(ForeignFileError, match=rf"{name}[\s\S]*move .* to another folder"):
        run(path, out, fresh=fresh)
    assert everything(out) == {name: b'{"mine": true}'}


@pytest.mark.parametrize("kind", ["a file", "a link", "a dangling link"])
def test_what_stands_where_a_folder_belongs_is_in_the_way(kind: str, project: Project, tmp_path: Path) -> None:
    path, out, elsewhere = project(**ONE), tmp_path / "paper", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "cells.csv").write_text("MINE")
    if kind == "a file":
        (out / "tables").write_text("MINE")
    elif kind == "a link":
        (out / "tables").symlink_to(elsewhere)
    else:
        (out / "report.md").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ForeignFileError):
        run(path, out)
    assert not (out / "run.lock.json").exists()


def test_a_report_leaves_what_is_not_its_own(copy: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = copy
    mine = put_mine(out)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(out / "figures", elsewhere)
    (elsewhere / "mine.png").write_text("MINE")
    (out / "figures").symlink_to(elsewhere)
    before = everything(elsewhere)
    record = json.loads((out / "results.json").read_text())
    record.update(comparisons=[], curve=[], few_shot=[])  # tables and figures that there no longer are
    (out / "results.json").write_text(json.dumps(record))
    assert (out / "tables" / "comparisons.csv").exists()
    build_report(out)
    assert not (out / "tables" / "comparisons.csv").exists()
    assert {name: text for name, text in mine.items() if not name.startswith("figures")}.items() <= everything(
        out
    ).items()
    assert everything(elsewhere).keys() == before.keys()


def test_what_the_user_edited_is_kept_aside(copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited report is neither lost nor in the way: it gets a name of its own, each time another."""
    monkeypatch.setattr(build, "draw_figures", lambda *_: ({}, ()))  # most of the time
    path, out = copy
    for n, rebuild in enumerate((lambda: build_report(out), lambda: build_report(out), lambda: run(path, out)), 1):
        (out / "report.md").write_text(f"edited {n}")
        rebuild()
        assert (out / f"report.md.edited-{n}").read_text() == f"edited {n}"
        assert (out / "report.md").read_text().startswith("# tiny")
    build_report(out)
    assert not (out / "report.md.edited-4").exists()


def test_an_edited_report_outlives_fresh(copy: tuple[Path, Path], no_report: None) -> None:
    path, out = copy
    (out / "tables" / "cells.csv").write_text("edited")
    run(path, out, "strategies.qlora=null", "strategies.few_shot=null", fresh=True)
    assert (out / "tables" / "cells.csv.edited-1").read_text() == "edited"
    assert not (out / "tables" / "cells.tex").exists()
    assert not (out / "adapter").exists()


# --- --fresh


def test_fresh_leaves_a_finished_run_whole_if_its_rows_fail_a_check(copy: tuple[Path, Path]) -> None:
    path, out = copy
    before = everything(out)
    with pytest.raises(DataError):
        run(path, out, "max_tokens=16", fresh=True)
    assert everything(out) == before


def test_fresh_leaves_a_finished_run_whole_if_the_model_fails(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = copy
    before = everything(out, "manifest.json")

    def fails(*_: Any, **__: Any) -> Any:
        assert (out / AWAY).is_dir()
        raise MemoryError("no room for the weights")

    monkeypatch.setattr(session, "load_model", fails)
    with pytest.raises(MemoryError):
        run(path, out, "tune.seed=7", fresh=True)
    assert everything(out, "manifest.json") == before
    monkeypatch.setattr(session, "load_model", load_model)
    assert len(run(path, out).cells) == 9


class Killed(BaseException):
    """As a kill: nothing after it runs."""


@pytest.mark.parametrize("moment", range(0, 75, 6))
def test_fresh_killed_at_any_moment_leaves_the_old_run_or_the_new_one(
    moment: int, copy: tuple[Path, Path], no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = copy
    sets = ("strategies.qlora=null", "strategies.few_shot=null", "data.test_rows=5")
    left = moment
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(RunFolder, "give_up_replacing", lambda _: None)
        try:
            run(path, out, *sets, fresh=True)
        except Killed:
            new = (out / AWAY / "begun").exists() or (not (out / AWAY).exists() and not (out / "tune").exists())
        else:
            new = True
    record = run(path, out, *(sets if new else ()))
    assert len(record.cells) == (2 if new else 9)
    assert not (out / AWAY).exists()
    assert read_run(out).cells == record.cells


def test_fresh_does_not_follow_a_link(copy: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = copy
    shutil.move(out / "cells", tmp_path / "cells")
    (out / "cells").symlink_to(tmp_path / "cells")
    before = everything(tmp_path / "cells")
    with pytest.raises(ForeignFileError, match=r"behind a link[\s\S]*remove the link"):
        run(path, out, fresh=True)
    assert everything(tmp_path / "cells") == before


def test_a_run_from_before_the_manifest(copy: tuple[Path, Path], no_report: None) -> None:
    path, out = copy
    (out / "manifest.json").unlink()
    (out / "notes.txt").write_text("MINE")
    (out / "cells" / "mine.json").write_text('{"mine": 1}')
    assert len(run(path, out).cells) == 9
    (out / "manifest.json").write_text("{torn")
    run(path, out, "strategies.qlora=null", "strategies.few_shot=null", fresh=True)
    assert sorted(p.name for p in out.iterdir()) == [
        *("cells", "items.parquet", "manifest.json", "notes.txt", "results.json", "rows.parquet"),
        *("run.lock.copy.json", "run.lock.json", "run.log", "tokens.parquet"),
    ]
    assert (out / "cells" / "mine.json").exists()


def test_another_process_is_named_and_nothing_is_touched(copy: tuple[Path, Path]) -> None:
    _, out = copy
    lock = ProcessLock(out)
    lock.acquire()
    before = everything(out)
    with pytest.raises(RunBusyError, match=f"process {os.getpid()} on "):
        build_report(out)
    assert everything(out) == before
    lock.release()
    build_report(out)


def test_a_run_does_not_write_over_its_own_data(project: Project, tmp_path: Path) -> None:
    path, out = project(**ONE), tmp_path / "out"
    run(path, out)
    written = out / "results.json"
    shutil.copy(tmp_path / "data" / "test.json", tmp_path / "mine.json")
    written.unlink()
    written.hardlink_to(tmp_path / "mine.json")
    with pytest.raises(ForeignFileError, match=r"would replace what is read: data\.test"):
        run(path, out, f"data.test={tmp_path / 'mine.json'}", fresh=True)
    assert (tmp_path / "mine.json").read_bytes() == (tmp_path / "data" / "test.json").read_bytes()


def test_work_without_lock_or_manifest_is_the_users(copy: tuple[Path, Path]) -> None:
    path, out = copy
    for name in ("manifest.json", "run.lock.json", "results.json"):
        (out / name).unlink()
    before = everything(out)
    with pytest.raises((ForeignFileError, RunChangedError)):
        run(path, out, fresh=True)
    assert everything(out) == before
