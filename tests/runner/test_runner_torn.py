"""A torn file of a run folder (emptied, cut, garbage) is healed, or refused with a cure that loses nothing more."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import InputError
from triptych.records.store import read_run
from triptych.runner import results
from triptych.runner.run import run_experiment
from triptych.training import loop

CELLS = {"zero_shot": {"prompts": ["default"]}, "few_shot": None, "qlora": {"prompt": "default"}}
ASKED = {"cells": "all", "rows": 2, "max_new_tokens": 3}
SETTINGS = {"strategies": CELLS, "tune": {"epochs": 1, "eval_every": 2}, "generate": ASKED}
HARMS: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x00\xffgarbage" * (len(content) // 9 + 1),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, write_experiment: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("torn")
    path = write_experiment(folder, model_folder, **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "build_report", read_run)
        run_experiment(read_config(path), folder / "run")
    return folder


def numbers(out: Path) -> dict[str, Any]:
    record = read_run(out)
    curve = [point.model_dump(exclude={"seconds"}) for point in record.curve]
    return {
        "cells": {cell.cell: cell.aggregate for cell in record.cells},
        "curve": curve,
        "texts": [one.row_chrf for one in record.generations],
        "adapter": record.tune and record.tune.adapter_sha256,
    }


def healed(folder: Path) -> list[str]:
    """Run the same command, following the cures that its errors name, until it is done. Returns the cures."""
    cures: list[str] = []
    for _ in range(4):
        try:
            run_experiment(read_config(folder / "experiment.yaml"), folder / "run")
        except InputError as error:
            assert error.fix is not None, error
            cures.append(error.fix)
            named = re.findall(rf"{re.escape(str(folder))}/run/[^\s;:,)]+", f"{error.fix} {error.where or ''}")
            assert "delete" in error.fix, error.fix
            for path in map(Path, named if str(folder) in error.fix else named[-1:]):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        else:
            return cures
    raise AssertionError(cures)


def check(done: Path, tmp_path: Path, name: str, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    shutil.copytree(done, folder)
    monkeypatch.setattr(results, "build_report", read_run)
    before = numbers(folder / "run")
    steps: list[int] = []
    real = loop._Training._step

    def counted(self: Any) -> None:
        steps.append(1)
        real(self)

    monkeypatch.setattr(loop._Training, "_step", counted)
    path = folder / "run" / name
    path.write_bytes(HARMS[harm](path.read_bytes()))
    cures = healed(folder)
    assert numbers(folder / "run") == before, cures
    assert not any("--fresh" in cure for cure in cures), cures
    assert not steps, "the training was done again"


@pytest.mark.parametrize(
    "name",
    [
        *("run.lock.json", "results.json", "items.parquet", "cells/zero_shot__default.json", "tune/curve.json"),
        *("tune/summary.json", "adapter/adapter_model.safetensors", "adapter/triptych.json"),
        *("predictions/qlora__default.json", "predictions/qlora__default.record.json", "manifest.json"),
    ],
)
def test_a_torn_file_is_healed(name: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(done, tmp_path, name, "cut in half", monkeypatch)


def test_a_curve_without_its_copy_says_what_it_costs(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(done, folder)
    monkeypatch.setattr(results, "build_report", read_run)
    before, zero = numbers(folder / "run"), folder / "run" / "cells" / "zero_shot__default.json"
    written = zero.stat().st_mtime_ns
    for name in ("curve.json", "curve.copy.json"):
        (folder / "run" / "tune" / name).write_text("{torn")
    cures = healed(folder)
    assert any("trains again, and keeps the cells that need no training" in cure for cure in cures)
    assert numbers(folder / "run") == before
    assert zero.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
def test_every_file_of_a_run_folder_torn(
    harm: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(path.relative_to(done / "run").as_posix() for path in (done / "run").rglob("*") if path.is_file())
    assert len(files) > 25
    failed = {}
    for number, name in enumerate(files):
        with monkeypatch.context() as patch:
            try:
                check(done, tmp_path / str(number), name, harm, patch)
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {str(error)[:300]}"
        shutil.rmtree(tmp_path / str(number))
    assert not failed, json.dumps(failed, indent=1)
