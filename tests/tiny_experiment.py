"""A small experiment on a tiny model: its data, its settings, and one undisturbed run that many tests look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drawing import drawn
from triptych.config.read import read_config
from triptych.records import RunRecord
from triptych.runner.run import run_experiment

PIECES = ["春眠", "不覺曉", "處處", "聞啼鳥", "夜來", "風雨", "花落", "知多少"]


DROPPED = {
    *("seconds", "at", "command", "path", "name", "threads_reason", "git"),
    *("peak_memory_bytes", "rows_cached"),
}


def made(name: str, n: int, offset: int) -> list[dict[str, str]]:
    """Rows in the study's format; no two instructions are alike."""
    return [
        {
            "id": f"{name}-{i}",
            "instruction": f"翻譯 {offset + i}：" + "".join(PIECES[(i + j) % 8] for j in range(1 + i % 3)),
            "output": "".join(PIECES[(3 * i + j) % 8] for j in range(1 + i % 4)),
        }
        for i in range(n)
    ]


def write_rows(folder: Path, *, train: int = 14, test: int = 6) -> None:
    """Write train.json and test.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, n, offset in (("train", train, 0), ("test", test, 1000)):
        text = json.dumps(made(name, n, offset), ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def settings(model: Path, data: str = "data") -> dict[str, Any]:
    """An experiment's YAML as a mapping: every strategy, 9 cells, 8 steps of training."""
    return {
        "name": "tiny",
        "cache": False,  # what two runs agree on must not come from one computation
        "model": {"name": str(model), "quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1},
        "data": {"dir": data},
        "strategies": {
            "zero_shot": {"prompts": ["default", "emotional"]},
            "few_shot": {"k": [1, 2, 3], "seeds": [0, 1], "draw": ["item"]},
            "qlora": {"prompt": "default"},
        },
        "tune": {"r": 2, "epochs": 2, "batch_size": 4, "eval_every": 4, "lr": 0.01},
    }


def merged(value: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` put over `value`, section by section."""
    result = dict(value)
    for key, item in over.items():
        inner = result.get(key)
        result[key] = merged(inner, item) if isinstance(item, dict) and isinstance(inner, dict) else item
    return result


@pytest.fixture(scope="session")
def model_folder(fake_folder: Callable[..., Path]) -> Path:
    return fake_folder("llama")


@pytest.fixture(scope="session")
def write_experiment() -> Callable[..., Path]:
    """`write_experiment(folder, model, **over)`: data/ and experiment.yaml in any folder; returns the YAML's path."""

    def write(folder: Path, model: Path, **over: Any) -> Path:
        if not (folder / "data").exists():
            write_rows(folder / "data")
        path = folder / "experiment.yaml"
        path.write_text(yaml.safe_dump(merged(settings(model), over)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def project(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    """`project(**over)`: writes data/ and experiment.yaml into tmp_path; returns the YAML's path."""

    def write(**over: Any) -> Path:
        if not (tmp_path / "data").exists():
            write_rows(tmp_path / "data")
        path = tmp_path / "experiment.yaml"
        value = merged(settings(model_folder), over)
        path.write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """The folder of a run that nothing happened to. Don't change it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_rows(folder / "data")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings(model_folder)), encoding="utf-8")
    with drawn():
        run_experiment(read_config(folder / "experiment.yaml"), folder / "run")
    return folder / "run"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out figures and Markdown, which are most of a tiny run's time."""
    from triptych.records.store import read_run
    from triptych.runner import live, results

    def read(folder: Path, *_: Any, **__: Any) -> RunRecord:
        return read_run(folder)

    monkeypatch.setattr(results, "build_report", read)
    monkeypatch.setattr(live, "build_so_far", lambda *_: None)


def numbers(folder: Path) -> dict[str, Any]:
    """`results.json` without what a second run may not repeat: times, and where and when it ran."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in DROPPED}
        return [plain(item) for item in value] if isinstance(value, list) else value

    result: dict[str, Any] = plain(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    result["provenance"]["config"]["data"].pop("dir", None)
    return result


@pytest.fixture(scope="session", name="numbers")
def _numbers() -> Callable[[Path], dict[str, Any]]:
    return numbers
