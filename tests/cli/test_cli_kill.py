"""Killed at any moment, the same command goes on and ends with the same numbers as a run that nothing happened to."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fork_server import Commands

WEIGHTS = "adapter/adapter_model.safetensors"
TIMEOUT = 60


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    made = Commands()
    yield made
    made.close()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not ready():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.0005)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The training log without seconds."""
    every = [json.loads(line) for line in (folder / "tune" / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in every]


def curve_of(folder: Path) -> list[dict[str, Any]]:
    points = json.loads((folder / "tune" / "curve.json").read_text())["points"]
    return [{key: value for key, value in point.items() if key != "seconds"} for point in points]


def training(project: Any, out: Path, *options: object) -> list[object]:
    """`triptych tune`: 14 rows in steps of 2, 7 steps an epoch, 42 in all."""
    rows = ["--data", project.train, "--test", project.test, "--out", out]
    settings = ["--r", 2, "--batch-size", 2, "--epochs", 6, "--lr", 0.01, "--eval-every", 5]
    return ["tune", *project.given(), *rows, *settings, *options]


@pytest.fixture(scope="module")
def trained(commands: Commands, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """`trained(dropout)`: the folder of a training that nothing happened to."""
    made: dict[float, Path] = {}

    def whole(dropout: float) -> Path:
        if dropout not in made:
            folder = tmp_path_factory.mktemp("whole")
            pid = commands.start(*training(finished[0], folder, "--dropout", dropout), said=folder / "said.txt")
            assert commands.wait(pid) == 0, (folder / "said.txt").read_text()
            made[dropout] = folder
        return made[dropout]

    return whole


@pytest.mark.parametrize("dropout", [pytest.param(0, marks=pytest.mark.slow), 0.2])
def test_training_killed_mid_epoch_again_and_again(
    dropout: float, commands: Commands, project: Any, tmp_path: Path, trained: Callable[[float], Path]
) -> None:
    whole, broken, said = trained(dropout), tmp_path / "broken", tmp_path / "said.txt"
    command = training(project, broken, "--dropout", dropout)
    random_moment = random.Random(os.urandom(8))
    log = broken / "tune" / "log.jsonl"
    kills = []
    for steps in (
        (3, 24) if dropout else (3, 11, 24)
    ):  # none at the end of an epoch (7, 14, ...) or at a checkpoint (5, 10, ...) exactly
        pid = commands.start(*command, said=said)
        until(lambda steps=steps: lines(log) >= steps)
        time.sleep(random_moment.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert commands.wait(pid) == -signal.SIGKILL, "it was done before it was killed"
        kills.append(lines(log))
    assert not (broken / "results.json").exists()
    assert commands.wait(commands.start(*command, said=said)) == 0, said.read_text()
    assert "training continues from step" in said.read_text()
    assert [line["step"] for line in log_of(broken)] == list(range(1, 43)), kills
    assert log_of(broken) == log_of(whole), kills
    assert curve_of(broken) == curve_of(whole), kills
    assert (broken / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes(), kills


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_training_asked_to_stop_says_how_to_go_on(
    number: signal.Signals, commands: Commands, project: Any, tmp_path: Path, trained: Callable[[float], Path]
) -> None:
    whole, out, said = trained(0.2), tmp_path / "tune", tmp_path / "said.txt"
    log = out / "tune" / "log.jsonl"
    command = training(project, out, "--dropout", 0.2)
    pid = commands.start(*command, said=said)
    until(lambda: lines(log) >= 8)
    os.kill(pid, number)
    assert commands.wait(pid) == 1
    words = said.read_text()
    done = lines(log)
    assert f"stopped after step {done} of 42, which is saved." in words
    assert "run the same command again" in words
    assert "Traceback" not in words
    assert (out / "tune" / "checkpoints" / f"step-{done:06d}").is_dir()
    assert commands.wait(commands.start(*command, said=said)) == 0
    assert f"training continues from step {done} of 42" in said.read_text()
    assert log_of(out) == log_of(whole)
    assert curve_of(out) == curve_of(whole)
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_a_run_killed_among_its_cells(
    commands: Commands, finished: Any, tmp_path: Path, numbers: Callable[[Path], Any]
) -> None:
    project, whole, _ = finished
    out, said = tmp_path / "run", tmp_path / "said.txt"
    command = ("run", project.config, "--out", out)
    random_moment = random.Random(os.urandom(8))
    kept: dict[Path, int] = {}

    def cells() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}

    for n in (1, 3, 5):
        pid = commands.start(*command, said=said)
        until(lambda n=n: len(cells()) >= n)
        time.sleep(random_moment.uniform(0, 0.005))
        os.kill(pid, signal.SIGKILL)
        assert commands.wait(pid) == -signal.SIGKILL
        assert kept.items() <= cells().items()  # what was finished was not computed again
        kept = cells()
        assert n <= len(kept) < 9
        assert not (out / "results.json").exists()
    assert commands.wait(commands.start(*command, said=said)) == 0, said.read_text()
    assert f"{len(kept)} of 9 cells are already scored" in said.read_text()
    assert kept.items() <= cells().items()
    assert numbers(out) == numbers(whole)
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert not list(out.glob("*.tmp"))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_among_the_cells_keeps_what_is_finished(
    number: signal.Signals, commands: Commands, finished: Any, tmp_path: Path, numbers: Callable[[Path], Any]
) -> None:
    project, whole, _ = finished
    out, said = tmp_path / "run", tmp_path / "said.txt"
    pid = commands.start("run", project.config, "--out", out, said=said)
    until(lambda: len(list((out / "cells").glob("*.json"))) >= 2)
    os.kill(pid, number)
    assert commands.wait(pid) == 1
    assert "the same command continues from there" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert commands.wait(commands.start("run", project.config, "--out", out, said=said)) == 0
    assert numbers(out) == numbers(whole)


@pytest.mark.slow
def test_a_run_killed_at_25_moments(
    commands: Commands, finished: Any, tmp_path: Path, numbers: Callable[[Path], Any]
) -> None:
    """Moments spread over the whole of a run, each of a run of its own; `--fresh` over a finished one too."""
    project, said = finished[0], tmp_path / "said.txt"
    small = ["--set", "strategies.few_shot.k=[1]", "--set", "strategies.few_shot.seeds=[0]", "--set", "tune.epochs=1"]
    command = ["run", project.config, *small]

    def run(out: Path, *options: str) -> None:
        assert commands.wait(commands.start(*command, "--out", out, *options, said=said)) == 0, said.read_text()

    run(tmp_path / "whole")
    began = time.monotonic()
    run(tmp_path / "again")
    seconds, expected = time.monotonic() - began, numbers(tmp_path / "whole")
    for moment in range(25):
        out, fresh = tmp_path / f"run{moment}", ["--fresh"] if moment % 5 == 4 else []
        if fresh:
            shutil.copytree(tmp_path / "whole", out)
        pid = commands.start(*command, "--out", out, *fresh, said=said)
        time.sleep(seconds * (moment + 0.5) / 25)
        os.kill(pid, signal.SIGKILL)
        commands.wait(pid)
        run(out)
        assert numbers(out) == expected, moment
        assert not [path for path in out.rglob("*") if path.name.endswith((".tmp", ".edited-1"))], moment
        assert not (out / ".replaced").exists()
        shutil.rmtree(out)
