"""kill -9, ten times in one training, also in the middle of writing: it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fork_server import ForkServer

TIMEOUT = 120


class Trainings(ForkServer):
    """Starts trainings (see `kill_worker.py`)."""

    def __init__(self, model: Path) -> None:
        super().__init__(Path(__file__).with_name("kill_worker.py"))
        self.model = str(model)

    def start(self, folder: Path, die_at: int | None = None) -> int:
        """The same training each time: it continues what it finds in the folder. Returns the process id."""
        return self.fork(Path(f"{folder}.txt"), folder=str(folder), model=self.model, die=die_at)


@pytest.fixture
def trainings(fake_folder: Callable[..., Path]) -> Iterator[Trainings]:
    made = Trainings(fake_folder("llama"))
    yield made
    made.close()


def steps_logged(folder: Path) -> int:
    path = folder / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key != "seconds"}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def log_of(folder: Path) -> list[Any]:
    return [without_seconds(json.loads(line)) for line in (folder / "log.jsonl").read_text().splitlines()]


def numbers_of(folder: Path, name: str) -> Any:
    return without_seconds(json.loads((folder / name).read_text()))


@pytest.mark.slow  # `make test` has tests/cli/test_cli_kill.py, with dropout
@pytest.mark.parametrize("times", [4, 10])
def test_killed_again_and_again_it_ends_byte_equal(times: int, trainings: Trainings, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert trainings.wait(trainings.start(whole)) == 0, (tmp_path / "whole.txt").read_text()
    moments = random.Random(20260731)
    kills: list[str] = []
    for n in range(times):
        before = steps_logged(broken)
        if n % 2:  # in the middle of writing: 5 or so changes to the disk make a checkpoint, 2 a point of the curve
            at = moments.randint(2, 22)
            pid = trainings.start(broken, die_at=at)
            kills.append(f"change {at} to the disk after step {before}")
        else:  # somewhere in a step
            goal, delay = before + moments.randint(0, 3), moments.uniform(0, 0.02)
            pid = trainings.start(broken)
            end = time.monotonic() + TIMEOUT
            while steps_logged(broken) <= goal and time.monotonic() < end:
                time.sleep(0.0005)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            kills.append(f"{delay * 1e3:.0f} ms after step {goal}")
        said = (tmp_path / "broken.txt").read_text()
        assert trainings.wait(pid) == -signal.SIGKILL, f"it ended before it was killed: {kills}\n{said}"
    assert not (broken / "summary.json").exists()
    assert trainings.wait(trainings.start(broken)) == 0, (tmp_path / "broken.txt").read_text()

    assert [line["step"] for line in log_of(broken)] == list(range(1, 61)), kills
    assert log_of(broken) == log_of(whole), kills
    assert numbers_of(broken, "curve.json") == numbers_of(whole, "curve.json"), kills
    assert numbers_of(broken, "summary.json") == numbers_of(whole, "summary.json"), kills
    for name in ("adapter_model.safetensors", "triptych.json"):
        assert (broken / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes(), (name, kills)
