"""What can be seen of a run while it goes on, and that seeing it can't harm the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import DataError
from triptych.progress import Silent
from triptych.report import build_report
from triptych.runner import live, tasks
from triptych.runner import run as runner
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
BASE: dict[str, Any] = {"few_shot": {"k": [1]}, "qlora": None}


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


class Killed(BaseException):
    """Ends a run as a kill does, as far as its files are concerned."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report whenever something was done."""
    monkeypatch.setattr(live, "EVERY", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    monkeypatch.setattr(live, "LOOK", 0.0)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """How far the run was in each report that was written."""
    written: list[Any] = []
    build = live.build_so_far

    def noted(path: Path, study: Any, texts: Any) -> None:
        build(path, study, texts)
        written.append(study.so_far)

    monkeypatch.setattr(live, "build_so_far", noted)
    yield written


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def stop_after(n: int, patch: pytest.MonkeyPatch) -> None:
    score, scored = tasks.score_cell, []

    def counted(*arguments: Any) -> Any:
        if len(scored) == n:
            raise Killed
        scored.append(score(*arguments))
        return scored[-1]

    patch.setattr(tasks, "score_cell", counted)


def test_each_finished_cell_has_a_line_with_its_number(project: Project, tmp_path: Path) -> None:
    told = Told()
    record = run_experiment(read_config(project(strategies=BASE)), tmp_path / "run", reporter=told)
    lines = [line for line in told.said if line[1:2] == "/"]
    assert len(lines) == 4
    assert lines[2].startswith("3/4 few_shot/default/k=1/draw=item/seed=0: ppl_mean ")
    assert lines[2].endswith(" s)")
    assert f"{record.cells[2].aggregate.ppl_mean:,.0f} (6 rows, " in lines[2]
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert all(f"INFO {line}" in log for line in lines)
    assert sum(line.startswith("report so far: ") for line in told.said) == 1


@pytest.mark.usefixtures("often")
def test_the_report_grows_with_the_run(project: Project, tmp_path: Path, pages: list[Any]) -> None:
    run_experiment(read_config(project(strategies={"few_shot": {"k": [1]}})), tmp_path / "run")
    assert pages[0].n_cells == (1, 5)
    assert pages[0].cells == {"zero_shot": (1, 2), "few_shot": (0, 2), "qlora": (0, 1)}
    assert pages[0].seconds_left is not None
    shares = [page.share for page in pages]
    assert shares == sorted(shares)
    assert any(page.steps and page.steps[0][1] == 8 for page in pages)
    assert pages[-1].n_cells == (4, 5) or pages[-1].trainings == (1, 1)
    assert 'id="so-far"' not in page_of(tmp_path / "run")


@pytest.mark.usefixtures("often")
def test_what_is_killed_leaves_a_report_that_says_so_and_the_next_try_replaces_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = read_config(project(strategies=BASE)), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(2, patch)
        run_experiment(config, out)
    page = page_of(out)
    assert "2 of 4 cells scored" in page
    assert "The run goes on, or was interrupted: then the same command continues it." in page
    assert not list(out.rglob(".*.tmp"))
    assert not any((out / name).exists() for name in ("results.json", "report.md", "tables", "figures"))
    with pytest.raises(DataError, match="not done yet") as refused:
        build_report(out)
    assert "2 finished cells" in str(refused.value)
    assert "report.html there shows what was scored" in str(refused.value)
    assert page_of(out) == page
    run_experiment(config, out)
    assert 'id="so-far"' not in page_of(out)
    assert not list(out.glob("*.edited-*"))


@pytest.mark.usefixtures("often")
def test_what_is_done_is_not_reported_as_so_far_again(project: Project, tmp_path: Path, pages: list[Any]) -> None:
    config, out = read_config(project(strategies=BASE)), tmp_path / "run"
    run_experiment(config, out)
    n_pages = len(pages)
    assert n_pages > 0
    run_experiment(config, out)
    assert len(pages) == n_pages


@pytest.mark.usefixtures("often")
def test_a_report_that_can_not_be_written_is_a_warning_and_no_more(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of the report")

    monkeypatch.setattr(live, "build_so_far", broken)
    told = Told()
    record = run_experiment(read_config(project(strategies=BASE)), tmp_path / "run", reporter=told)
    assert len(record.cells) == 4
    warnings = [line for line in told.said if "the report so far can't be written" in line]
    assert warnings == [
        "warning: the report so far can't be written; the run goes on: ZeroDivisionError: of the report"
    ]
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert log.count("Traceback") == 1
    assert 'id="so-far"' not in page_of(tmp_path / "run")


def test_an_edited_report_is_kept_and_a_foreign_one_refused(project: Project, tmp_path: Path) -> None:
    config, out = read_config(project(strategies=BASE)), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        stop_after(1, patch)
        run_experiment(config, out)
    (out / "report.html").write_text("mine", encoding="utf-8")
    run_experiment(config, out)
    assert (out / "report.html.edited-1").read_text(encoding="utf-8") == "mine"


class Clock:
    """Seconds: a report takes `build` of them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("build", "every"), [(0.1, 20.0), (3.0, 100.0)])
def test_reports_come_at_once_then_seldom_and_take_a_small_share(
    build: float, every: float, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.runner.prepare import prepare
    from triptych.runner.run_log import RunLog

    shutil.copytree(undisturbed.parent, tmp_path / "copy")
    clock, at = Clock(), []

    def built(*_: Any) -> None:
        at.append(clock.now)
        clock.now += build

    monkeypatch.setattr(live, "build_so_far", built)
    config, log = read_config(tmp_path / "copy" / "experiment.yaml"), RunLog(Silent())
    context = prepare(config, runner.grid(config), runner.RunFolder(tmp_path / "copy" / "run"), log)
    known = dict(context.finished or runner.finished_cells(runner.grid(config), context.folder, context.facts))
    context.finished.clear()
    run = runner._Run(context, runner.grid(config), runner.World(), whole=True)
    run.live = live.LiveReport(run, clock=clock)
    run.live.begin(log)
    assert at == []
    with log.task("cells", 10_000) as advance:
        for second in range(1000):
            clock.now += 1
            if second == 7:
                name, cell = next(iter(known.items()))
                context.finished[name] = cell
                run.live.scored(cell.record)
            advance(1)
    run.live.close()
    assert at[0] == 8.0
    gaps = [after - before - build for before, after in pairwise(at)]
    assert gaps
    assert min(gaps) >= every - 0.001
    assert max(gaps) <= every + 2
    assert len(at) * build <= live.SHARE * clock.now + build
