"""A new user's hour: all that goes wrong on the way to a first result, and what is said each time.

One story in one folder, told in order. A sentence that is asserted here is one that the user acts on.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fork_server import Commands

CELLS = 4
TIMEOUT = 60


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def failed_well(self, *sentences: str) -> None:
        """The user's mistake: exit code 2, nothing but the message, in parts, no traceback."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self.err
        assert "Traceback" not in self.err + self.out
        for sentence in sentences:
            assert sentence in self.err, f"not said: {sentence}\n{self.err}"


def triptych(*arguments: object) -> Done:
    """`triptych ARGUMENTS` in this process, its output in files."""
    from triptych.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["triptych", *map(str, arguments)])
        try:
            main()
        except SystemExit as error:
            return Done(int(error.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() returned instead of exiting")


@pytest.fixture
def killable(desk: Path) -> Iterator[Commands]:
    made = Commands(desk)  # it imports while the first steps are run
    yield made
    made.close()


def rows(name: str, n: int, *, column: str = "output") -> list[dict[str, str]]:
    poem = ["春眠", "不覺曉", "處處", "聞啼鳥", "夜來風雨聲"]
    return [
        {"id": f"{name}-{i}", "instruction": f"翻譯 {name} {i}：{poem[i % 5]}", column: poem[(2 * i) % 5] + poem[i % 3]}
        for i in range(n)
    ]


def write(path: Path, lines: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


CONFIG: dict[str, Any] = {
    "name": "hour",
    "cache": False,
    "model": {"name": "./model", "quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1},
    "data": {"train": "train.jsonl", "test": "test.jsonl"},
    "strategies": {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1, 2], "seeds": [0]}, "qlora": {}},
    "tune": {"r": 2, "epochs": 3, "batch_size": 2, "eval_every": 5, "lr": 0.01},
}


@pytest.fixture
def desk(tmp_path: Path, fake_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, data, a configuration."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("model", 0), ("other-model", 1)):
        (tmp_path / name).symlink_to(fake_folder("llama", seed=seed), target_is_directory=True)
    write(tmp_path / "train.jsonl", rows("train", 14))
    write(tmp_path / "test.jsonl", rows("test", 6))
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return tmp_path


def test_a_new_users_hour(desk: Path, killable: Commands, quickly_timed: None) -> None:
    wrong_key(desk)
    wrong_path()
    wrong_column(desk)
    too_long(desk)
    too_little_memory()
    left = [path.name for path in (desk / "runs").rglob("*") if path.is_file()]
    # a lock and the manifest that names it are nothing begun
    assert set(left) <= {"run.lock.json", "manifest.json"}, "a mistake left something behind"
    killed(desk, killable)
    resumed(desk)
    run_again()
    changed_config()
    other_model(desk)
    reproduced(desk)
    assert not list(desk.rglob("*.tmp"))


def wrong_key(desk: Path) -> None:
    typo = {**CONFIG, "tune": {"epocs": 3}}
    (desk / "typo.yaml").write_text(yaml.safe_dump(typo, sort_keys=False))
    line = (desk / "typo.yaml").read_text().splitlines().index("  epocs: 3") + 1
    for command in ("run", "plan", "preview"):
        triptych(command, "typo.yaml").failed_well(
            "unknown key `tune.epocs`", f"where: typo.yaml, line {line}", "did you mean `epochs`?"
        )


def wrong_path() -> None:
    triptych("run", "experimant.yaml").failed_well("experimant.yaml")
    triptych("run", "experiment.yaml", "--set", "data.train=trian.jsonl").failed_well(
        "there is no such file", "where: trian.jsonl", "did you mean train.jsonl"
    )
    triptych("run", "experiment.yaml", "--set", "model.name=./modle").failed_well(
        "there is no such model folder", "where: ./modle", "expected: a folder, a .gguf file, a hub id"
    )


def wrong_column(desk: Path) -> None:
    write(desk / "columns.jsonl", rows("test", 6, column="reponse"))
    triptych("run", "experiment.yaml", "--set", "data.test=columns.jsonl").failed_well(
        "the column 'output' is missing", "where: columns.jsonl", "or say which are meant", "output: reponse"
    )
    command = ["plan", "experiment.yaml", "--set", "data.test=columns.jsonl"]
    mapped = triptych(*command, "--set", "data.columns={output: reponse}")
    assert mapped.code == 0, mapped.err
    assert "6" in mapped.out
    triptych(*command, "--set", "data.columns={output: responce}").failed_well("responce", "reponse")


def too_long(desk: Path) -> None:
    """A test row whose answer would be cut stops the run before it begins; `preview` shows which."""
    long = rows("test", 6)
    long[3]["output"] = "處" * 900
    write(desk / "long.jsonl", long)
    change = ["--set", "data.test=long.jsonl"]
    said = ("no answer truncated: longer than 2,048 tokens", "test-3", "shorten or remove these rows")
    triptych("run", "experiment.yaml", *change).failed_well(*said)
    preview = triptych("preview", "experiment.yaml", *change, "--rows", 0)
    preview.failed_well(*said)
    assert "✗ no answer truncated" in preview.out
    assert "✓ EOS last and scored" in preview.out


def too_little_memory() -> None:
    little = triptych("plan", "experiment.yaml", "--memory", "8MiB")
    assert little.code == 0, little.err
    assert "memory: 8 MiB in the named machine" in little.out
    lines = [line for line in little.out.splitlines() if "plain" in line]
    assert lines
    assert all(line.strip().startswith("✗") for line in lines)
    warnings = [line for line in little.out.splitlines() if line.startswith("! ")]
    assert any("memory" in line for line in warnings), little.out
    enough = triptych("plan", "experiment.yaml", "--memory", "64GiB")
    assert "✗" not in enough.out
    triptych("plan", "experiment.yaml", "--memory", "lots").failed_well("no amount of memory", "found: lots", "8GiB")


def killed(desk: Path, killable: Commands) -> None:
    """Without a warning, in the middle of the training."""
    log = desk / "runs" / "hour" / "tune" / "log.jsonl"
    (desk / "said").mkdir()
    pid = killable.start("run", "experiment.yaml", said=desk / "said" / "run.txt")
    end = time.monotonic() + TIMEOUT
    while not (log.exists() and log.read_bytes().count(b"\n") >= 7):
        assert time.monotonic() < end, (desk / "said" / "run.txt").read_text()
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    assert killable.wait(pid) == -signal.SIGKILL
    assert not (desk / "runs" / "hour" / "results.json").exists()
    plan = triptych("plan", "experiment.yaml")
    assert len(re.findall(r"^(?:zero_shot|few_shot)/.* done$", plan.out, re.MULTILINE)) == CELLS - 1, plan.out
    (training,) = json.loads(triptych("plan", "experiment.yaml", "--json").out)["trainings"]
    assert (training["steps_done"], training["steps"], training["done"]) == (5, 21, False)
    triptych("report", "runs/hour").failed_well(
        "this run is not done yet", "results.json", "continue it with the same `triptych run` command"
    )


def resumed(desk: Path) -> None:
    """The same command, and nothing else to know."""
    before = {path: path.stat().st_mtime_ns for path in (desk / "runs" / "hour" / "cells").iterdir()}
    done = triptych("run", "experiment.yaml")
    assert done.code == 0, done.err
    assert f"{CELLS - 1} of {CELLS} cells are already scored" in done.out
    assert "training continues from step 5 of 21" in done.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "QLoRA" in done.out
    assert done.out.splitlines()[-1] == "report: runs/hour/report.html"
    steps = [json.loads(line)["step"] for line in (desk / "runs/hour/tune/log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 22))


def run_again() -> None:
    done = triptych("run", "experiment.yaml")
    assert f"{CELLS} of {CELLS} cells are already scored" in done.out
    assert "loading" not in done.out


def changed_config() -> None:
    """Two experiments are never mixed: the difference is shown, and the ways out."""
    change = ["--set", "tune.epochs=1", "--set", "strategies.few_shot.k=[1]"]
    ways = ("continuing would mix two experiments", "where: runs/hour/run.lock.json", "--out", "--fresh")
    triptych("run", "experiment.yaml", *change).failed_well(
        *ways, "config.tune.epochs: 3.0 -> 1.0", "config.strategies.few_shot.k: [1, 2] -> [1]"
    )
    done = triptych("run", "experiment.yaml", *change, "--out", "runs/shorter")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "report: runs/shorter/report.html"


def other_model(desk: Path) -> None:
    change = ["--set", "model.name=./other-model"]
    triptych("run", "experiment.yaml", *change).failed_well(
        "continuing would mix two experiments", "model.weights_sha256", "--out"
    )
    change += ["--set", "strategies.qlora=null", "--out", "runs/other"]
    assert triptych("run", "experiment.yaml", *change).code == 0
    done = triptych("report", "runs/hour", "runs/other")
    assert done.code == 0, done.err
    assert "Bits per character" in done.out
    assert (desk / "runs" / "comparison" / "comparison.md").is_file()


def reproduced(desk: Path) -> None:
    done = triptych("reproduce", "runs/hour")
    assert done.code == 0, done.out + done.err
    assert "exact: every number came out again, bit by bit" in done.out
    assert done.out.splitlines()[-1] == "computed again in runs/hour-reproduced"
    moved = triptych("reproduce", "runs/hour", "--model", "./other-model", "--only-check")
    assert moved.code == 1
    line = next(line for line in moved.out.splitlines() if "model weights" in line)
    assert line.split()[-1] == "changed"
    assert "1 changed; nothing was recomputed" in moved.out
    sample = rows("train", 14)
    sample[0]["output"] += "。"
    write(desk / "train.jsonl", sample)
    moved = triptych("reproduce", "runs/hour", "--only-check")
    assert moved.code == 1
    assert any("train file" in line and line.split()[-1] == "changed" for line in moved.out.splitlines())
