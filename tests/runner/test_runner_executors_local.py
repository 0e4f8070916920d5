"""Worker processes compute what one process computes; a dead one is replaced, and one that fails ends the run."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tiny_experiment import numbers
from triptych.config.read import read_config
from triptych.errors import ModelError, TriptychError
from triptych.progress import Advance, Silent
from triptych.records.process_lock import WORKERS_LOCK
from triptych.records.store import read_json
from triptych.runner.executors import local
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("no_report")
WEIGHTS = "adapter/adapter_model.safetensors"


class Acting(Silent):
    """Keeps what is said, and acts when a task of this title begins; each time, or the first `times`."""

    def __init__(self, title: str = "", act: Callable[[], None] | None = None, times: int = 1) -> None:
        self.said: list[str] = []
        self.title, self.act, self.left = title, act, times

    @contextmanager
    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
        if self.act and self.title and title.startswith(self.title) and self.left:
            self.left -= 1
            self.act()
        yield lambda _: None

    def info(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


@pytest.fixture
def workers(caplog: pytest.LogCaptureFixture) -> Callable[[], dict[int, int]]:
    """`workers()`: number -> process id of the workers that were started, the newest of each number."""
    caplog.set_level(logging.INFO, "triptych.run")

    def pids() -> dict[int, int]:
        return {int(n): int(pid) for n, pid in re.findall(r"worker (\d) is process (\d+)", caplog.text)}

    return pids


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def kill_all(pids: Mapping[int, int]) -> None:
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_two_processes_compute_what_one_computes(
    project: Project, tmp_path: Path, undisturbed: Path, workers: Callable[[], dict[int, int]]
) -> None:
    run, said = tmp_path / "run", Acting()
    run_experiment(read_config(project()), run, on="local:2", reporter=said)
    assert numbers(run) == numbers(undisturbed)
    for name in (WEIGHTS, "items.parquet"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes()
    chosen = read_json(run / "run.lock.json")["chosen"]
    assert (chosen["processes"], chosen["threads"]) == (2, 1)
    assert sum(line.startswith("loading") for line in said.said) == 1  # two workers said it
    assert len(workers()) == 2
    assert all(map(gone, workers().values()))
    assert not (run / WORKERS_LOCK).exists()
    listed = read_json(run / "manifest.json")["files"]
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert there - {"manifest.json"} <= set(listed)  # what workers wrote is noted too


def test_workers_have_the_folder_and_the_environment_of_now(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the moment when Python's fork server was started, which all runs of a notebook share."""
    config = read_config(project(data={"dir": "data"}, cache=True, strategies={"qlora": None}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"dir": "data"})})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "another-cache"))
    assert len(run_experiment(config, Path("run"), on="local:2").cells) == 8
    assert (tmp_path / "another-cache" / "scores.sqlite").exists()


@pytest.mark.parametrize(
    "title",
    ["curve: test at step 4", pytest.param("scoring few_shot/default/k=3/draw=item/seed=1", marks=pytest.mark.slow)],
)
def test_a_killed_worker_is_replaced_and_its_task_done_again(
    title: str, project: Project, tmp_path: Path, undisturbed: Path, workers: Callable[[], dict[int, int]]
) -> None:
    run = tmp_path / "run"

    said = Acting(title, lambda: kill_all(workers()))
    run_experiment(read_config(project()), run, on="local:2", reporter=said)
    assert said.left == 0
    told = [line for line in said.said if "was killed (signal 9)" in line]
    assert told
    assert all(line.startswith("warning: worker process ") for line in told)
    assert numbers(run) == numbers(undisturbed)
    assert (run / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_a_task_that_kills_its_worker_again_and_again_ends_the_run(
    project: Project, tmp_path: Path, workers: Callable[[], dict[int, int]]
) -> None:
    run = tmp_path / "run"
    said = Acting("curve: test at step 0", lambda: kill_all(workers()), times=3)
    with pytest.raises(TriptychError, match=r"was killed \(signal 9\) at .*, in the last of 3 tries"):
        run_experiment(read_config(project()), run, on="local:2", reporter=said)
    assert all(map(gone, workers().values()))
    assert len(run_experiment(read_config(project()), run).cells) == 9  # the message is true


@pytest.mark.slow
def test_memory_that_ran_out_leaves_fewer_processes(
    project: Project, tmp_path: Path, workers: Callable[[], dict[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([0, 1])  # the system says that it killed a process
    monkeypatch.setattr(local, "_killed_for_memory", lambda: next(counts, 1))
    said = Acting("curve: test at step 0", lambda: kill_all(workers()))
    run_experiment(read_config(project()), tmp_path / "run", on="local:2", reporter=said)
    assert any("because memory ran out: it is done again, with 1 process from here on" in line for line in said.said)


def test_an_error_in_a_worker_is_the_runs(
    project: Project, tmp_path: Path, workers: Callable[[], dict[int, int]]
) -> None:
    run = tmp_path / "run"
    config = read_config(project(tune={"target_modules": ["no_such"]}))
    with pytest.raises(ModelError, match="no_such") as raised:
        run_experiment(config, run, on="local:2")
    assert "in work\n" in str(raised.value.__cause__)  # the worker's traceback, for run.log
    assert "executors/worker.py" in (run / "run.log").read_text(encoding="utf-8")
    assert all(map(gone, workers().values()))


def test_ctrl_c_lets_a_training_save_and_the_same_call_goes_on(
    project: Project, tmp_path: Path, undisturbed: Path, workers: Callable[[], dict[int, int]]
) -> None:
    run = tmp_path / "run"

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TriptychError)):
        run_experiment(read_config(project()), run, on="local:2", reporter=Acting("curve: test at step 4", interrupt))
    assert all(map(gone, workers().values()))
    assert list((run / "tune" / "checkpoints").glob("step-*"))
    said = Acting()
    run_experiment(read_config(project()), run, reporter=said)
    assert numbers(run) == numbers(undisturbed)


@pytest.mark.slow
def test_a_run_goes_on_in_as_many_processes_as_it_was_begun_with(project: Project, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TriptychError)):
        run_experiment(
            read_config(project()), run, on="local:3", reporter=Acting("scoring few_shot/default/k=3", interrupt)
        )
    said = Acting()
    run_experiment(read_config(project()), run, on="auto", reporter=said)
    assert "computing in 3 processes, of one thread each" in said.said
