"""Plans of the demo model on the bundled sample against what was measured: tokens exact, memory and time near."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from triptych.records.store import read_json

CASES: dict[str, dict[str, Any]] = {
    "zero_shot": {"strategies": {"zero_shot": {"prompts": ["default"]}}},
    "few_shot": {"strategies": {"few_shot": {"k": [3], "seeds": [0, 1]}}},
    "qlora": {"strategies": {"qlora": {}}, "tune": {"epochs": 2, "eval_every": 4}},
}


def command(*arguments: str, cwd: Path) -> str:
    """Run in a process of its own: memory is measured over a process's whole life."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-m", "triptych.cli.main", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_plan_and_its_run(case: str, tmp_path: Path) -> None:
    settings = {
        "name": case,
        "model": {"name": "demo", "threads": 1},
        "data": {"dir": "sample", "train_rows": 64, "test_rows": 24},
        "cache": False,
        **CASES[case],
    }
    (tmp_path / "exp.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    plan = json.loads(command("plan", "exp.yaml", "--calibrate", "--json", cwd=tmp_path))
    command("run", "exp.yaml", cwd=tmp_path)
    folder = tmp_path / "runs" / case
    results = read_json(folder / "results.json")

    need = next(line["need"] for line in plan["memory"] if line["chosen"])
    measured = results["provenance"]["peak_memory_bytes"]
    print(case, "memory", {name: n >> 20 for name, n in need.items()}, "measured", measured >> 20)
    seconds = {"planned": 0.0, "measured": 0.0}
    for planned, cell in zip(plan["cells"], results["cells"], strict=True):
        assert planned["name"] == cell["cell"]
        assert planned["scored_tokens"] == cell["aggregate"]["n_tokens"]
        file = next(f for f in (folder / "cells").glob("*.json") if read_json(f)["record"]["cell"] == cell["cell"])
        items = read_json(file)["items"]
        assert planned["tokens"] == sum(item["n_prompt_tokens"] + item["n_tokens"] for item in items)
        seconds["planned"] += planned["seconds"]
        seconds["measured"] += cell["seconds"]
    for training, summary in zip(plan["trainings"], results.get("trainings") or [], strict=True):
        assert training["tokens"] == summary["tokens"]
        assert training["scored_tokens"] == summary["scored_tokens"]
        assert training["steps"] == summary["steps"] == 8
        seconds["planned"] += training["seconds"]
        seconds["measured"] += summary["seconds"]
    print(case, seconds)
    assert need["peak"] == pytest.approx(measured, rel=0.2)
    assert seconds["planned"] == pytest.approx(seconds["measured"], rel=0.4)
