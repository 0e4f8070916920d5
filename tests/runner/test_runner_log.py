"""A run's log: what was done, and the traceback that the command line doesn't show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import InputError
from triptych.progress import Silent
from triptych.runner import results, tasks
from triptych.runner.run import run_experiment
from triptych.runner.run_log import RunLog

Project = Callable[..., Path]
ZERO: dict[str, Any] = {"zero_shot": {"prompts": ["default"]}, "few_shot": None, "qlora": None}


def log_of(folder: Path) -> str:
    return (folder / "run.log").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_report")
def test_a_run_says_what_it_did_and_when(project: Project, tmp_path: Path) -> None:
    train = tmp_path / "data" / "train.json"
    path = project(strategies=ZERO)
    train.write_text((tmp_path / "data" / "test.json").read_text(encoding="utf-8"), encoding="utf-8")
    before = list(logging.getLogger().handlers)
    run_experiment(read_config(path), tmp_path / "run")
    assert logging.getLogger().handlers == before
    first, *rest = log_of(tmp_path / "run").splitlines()
    assert " INFO begun: " in first
    assert all(line[:2] == "20" for line in rest)  # each begins with its time
    said = "\n".join(rest)
    assert " WARNING " in said  # of rows in both sets: known before the log was there
    assert "zero_shot/default: 6 rows" in said
    assert said.endswith("INFO done")


@pytest.mark.usefixtures("no_report")
def test_what_failed_leaves_its_traceback_and_the_next_try_adds_to_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(project(strategies=ZERO))
    with monkeypatch.context() as broken:
        broken.setattr(results, "write_items", lambda *_: next(iter(())))
        with pytest.raises(StopIteration) as error:
            run_experiment(config, tmp_path / "run")
    assert error.value.__notes__ == [f"the traceback is in {tmp_path / 'run' / 'run.log'}"]
    assert "ERROR failed\nTraceback (most recent call last):" in log_of(tmp_path / "run")
    assert log_of(tmp_path / "run").endswith("StopIteration\n")
    run_experiment(config, tmp_path / "run")
    assert log_of(tmp_path / "run").count(" begun: ") == 2
    assert log_of(tmp_path / "run").endswith("done\n")
    run_experiment(config, tmp_path / "run", fresh=True)
    assert log_of(tmp_path / "run").count(" begun: ") == 1


@pytest.mark.usefixtures("no_report")
def test_a_stop_is_no_failure(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "score_cell", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(read_config(project(strategies=ZERO)), tmp_path / "run")
    assert log_of(tmp_path / "run").endswith("INFO stopped: KeyboardInterrupt\n")
    assert "Traceback" not in log_of(tmp_path / "run")


def test_a_run_that_cannot_begin_leaves_none(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_experiment(read_config(project(max_tokens=16)), tmp_path / "run")
    assert not (tmp_path / "run" / "run.log").exists()


def test_a_warning_of_the_engine_is_in_the_log_and_on_the_terminal(tmp_path: Path) -> None:
    """With a handler for the file in place, Python's own last resort prints nothing any more."""
    said: list[str] = []

    class Says(Silent):
        def info(self, message: str) -> None:
            said.append(message)

        def warn(self, message: str) -> None:
            said.append(f"warning: {message}")

    log = RunLog(Says())
    log.begin(tmp_path)
    logging.getLogger("triptych.likelihood.probe").warning("rows are scored %s", "one by one")
    log.warn("once")
    log.ended()
    logging.getLogger("triptych.likelihood.probe").warning("after the end")
    assert said == ["warning: rows are scored one by one", "warning: once"]
    text = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert text.count("rows are scored one by one") == text.count(" WARNING once") == 1


@pytest.mark.usefixtures("no_report")
def test_warnings_and_messages_come_by_methods_of_their_own(project: Project, tmp_path: Path) -> None:
    """Whoever calls from Python can tell them apart, and so does the log: how a message begins decides nothing."""
    messages: list[str] = []
    warnings: list[str] = []

    class Kept(Silent):
        def info(self, message: str) -> None:
            messages.append(message)

        def warn(self, message: str) -> None:
            warnings.append(message)

    path = project(strategies=ZERO)
    test = tmp_path / "data" / "test.json"
    (tmp_path / "data" / "train.json").write_text(test.read_text(encoding="utf-8"), encoding="utf-8")
    run_experiment(read_config(path), tmp_path / "run", reporter=Kept())
    assert any("occur" in warning for warning in warnings)
    assert not [text for text in (*messages, *warnings) if text.startswith("warning")]
    log = RunLog(Silent())
    log.begin(tmp_path)
    log.info("warning signs were counted")
    log.warn("one of them is red")
    log.ended()
    lines = log_of(tmp_path).splitlines()
    assert any(line.endswith("INFO warning signs were counted") for line in lines)
    assert any(line.endswith("WARNING one of them is red") for line in lines)
