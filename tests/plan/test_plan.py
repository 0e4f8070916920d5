"""The plan of an experiment against the run of it."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from triptych.config.choices import DtypeName
from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError, ModelError
from triptych.grid.cells import grid
from triptych.grid.rows import ExperimentRows
from triptych.models.device import DTYPES
from triptych.models.header import read_header
from triptych.models.shape import shape_of
from triptych.plan import memory as plan_memory
from triptych.plan.memory import Machine, memory_ways
from triptych.plan.plan import Plan, plan_experiment
from triptych.plan.rows import gather
from triptych.progress import Silent
from triptych.records.store import read_json
from triptych.runner.run import run_experiment
from triptych.training import recompute
from triptych.training.memory import PassSize, largest_pass

pytestmark = pytest.mark.usefixtures("quickly_timed")

GIB = 1 << 30


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, fake_folder: Callable[..., Path]) -> Path:
    """A folder with data, and a model folder without weights."""
    folder = tmp_path_factory.mktemp("plan")
    model = Path(shutil.copytree(fake_folder("llama"), folder / "model"))
    for file in model.glob("*.safetensors*"):
        file.unlink()
    for name, n, offset in (("train", 14, 0), ("test", 6, 100)):
        rows = [
            {
                "id": f"{name}-{i}",
                "instruction": f"翻譯 {offset + i}：" + "古文" * (1 + i % 3),
                "output": "今" * (1 + i % 4),
            }
            for i in range(n)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def config(project: Path, fake_folder: Callable[..., Path]) -> Callable[..., Any]:
    """`config({...}, weights=...)`: the settings, sections put over a small experiment's."""

    def made(over: dict[str, Any] | None = None, *, weights: bool = False) -> Any:
        settings: dict[str, Any] = {
            "name": "tiny",
            "cache": False,
            "model": {
                "name": str(fake_folder("llama") if weights else project / "model"),
                "quantize": "none",
                "dtype": "float32",
                "device": "cpu",
                "threads": 1,
            },
            "data": {"dir": str(project)},
            "strategies": {
                "zero_shot": {"prompts": ["default", "emotional"]},
                "few_shot": {"k": [1, 3], "seeds": [0, 1]},
                "qlora": {},
            },
            "tune": {"r": 2, "epochs": 1.5, "batch_size": 4, "eval_every": 2, "eval_rows": 5},
        }
        for key, value in (over or {}).items():
            kept = settings.get(key)
            settings[key] = {**kept, **value} if isinstance(kept, dict) and key != "strategies" else value
        path = project / "exp.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return read_config(path)

    return made


@pytest.fixture(scope="module")
def planned(config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_experiment(config(), tmp_path_factory.mktemp("none") / "run")


def test_no_weights_are_touched(config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are none in this model's folder; and nothing that would load them is called."""
    from triptych.models import load, source
    from triptych.plan import calibrate as plan_calibrate

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(plan_calibrate, "load_model", refused)
    monkeypatch.setattr(load, "load_model", refused)
    monkeypatch.setattr(source, "sha256_of_large_file", refused)
    monkeypatch.setattr("safetensors.safe_open", refused)
    assert plan_experiment(config(), tmp_path / "run").seconds > 0
    assert not (tmp_path / "run").exists()  # a plan leaves nothing behind


def test_every_cell_is_there(planned: Plan, config: Callable[..., Any]) -> None:
    assert [cell.name for cell in planned.cells] == [cell.name for cell in grid(config())]
    assert len(planned.cells) == 7
    assert all(cell.rows == 6 and cell.exact and not cell.done for cell in planned.cells)
    assert planned.seconds == pytest.approx(
        sum(c.seconds for c in planned.cells) + sum(t.seconds + t.curve_seconds for t in planned.trainings)
    )
    assert planned.seconds_left == planned.seconds


def test_tokens_are_those_of_the_run(planned: Plan, config: Callable[..., Any], tmp_path: Path) -> None:
    """The one test that this file is for."""
    out = tmp_path / "run"
    settings = config(weights=True)
    run_experiment(settings, out)
    cells = {cell["cell"]: cell for cell in read_json(out / "results.json")["cells"]}
    for cell in planned.cells:
        assert cell.scored_tokens == cells[cell.name]["aggregate"]["n_tokens"], cell.name
        saved = next(f for f in (out / "cells").glob("*.json") if read_json(f)["record"]["cell"] == cell.name)
        items = read_json(saved)["items"]
        # BOS, prompt and what is scored: n_prompt_tokens counts BOS
        assert cell.tokens == sum(item["n_prompt_tokens"] + item["n_tokens"] for item in items), cell.name
        assert cell.forward_tokens < cell.tokens
    summary = read_json(out / "tune" / "summary.json")
    (training,) = planned.trainings
    assert (training.steps, training.rows) == (summary["steps"], summary["rows"]) == (6, 14)
    assert (training.tokens, training.scored_tokens) == (summary["tokens"], summary["scored_tokens"])
    assert training.trainable_parameters == summary["trainable_parameters"] == planned.model["adapter_parameters"]
    points = read_json(out / "tune" / "curve.json")["points"]
    assert training.points == len([p for p in points if p["split"] == "test"])
    assert {p["aggregate"]["n_rows"] for p in points} == {training.rows_per_point} == {5}

    again = plan_experiment(settings, out)
    assert all(cell.done for cell in again.cells)
    assert [(t.done, t.steps_done) for t in again.trainings] == [(True, 6)]
    assert again.seconds_left == 0 < again.seconds

    saved.unlink()
    shutil.rmtree(out / "adapter")
    part = plan_experiment(settings, out)
    assert sum(not cell.done for cell in part.cells) == 1
    assert not part.trainings[0].done
    assert 0 < part.seconds_left < part.seconds


def test_an_interrupted_training_says_its_step(config: Callable[..., Any], tmp_path: Path) -> None:
    for step in (2, 4):
        folder = tmp_path / "tune" / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "tune" / "checkpoints" / "step-000006").mkdir()  # without its state it isn't whole
    assert plan_experiment(config(), tmp_path).trainings[0].steps_done == 4


def test_compositions_seeds_and_search(config: Callable[..., Any], tmp_path: Path) -> None:
    strategies = {
        "qlora": {"seeds": [0, 1], "trained_k": [0, 1], "score": [{"prompts": ["emotional"], "k": [0, 2]}]},
        "search": {"k": [0, 1], "start_rows": 2, "prompts": ["default"]},
    }
    plan = plan_experiment(config({"strategies": strategies, "data": {"dev_rows": 4}}), tmp_path / "run")
    assert len(plan.trainings) == 4
    assert len({t.name for t in plan.trainings}) == 4
    assert plan.trainings[0].tokens < plan.trainings[2].tokens  # with a demonstration in each row
    assert all(t.rows_per_point == 5 + 4 for t in plan.trainings)
    names = [cell.name for cell in plan.cells]
    assert {"qlora/default", "qlora/emotional/trained=default"} <= set(names)
    assert [n for n in names if n.startswith("search/round=2")]  # the better half, on the other two dev rows
    winner = plan.cells[-1]
    assert winner.name.startswith("search/winner")
    assert not winner.exact


def test_demonstrations_that_need_the_model_are_marked(config: Callable[..., Any], tmp_path: Path) -> None:
    strategies = {"few_shot": {"k": [2], "seeds": [0], "select": ["random", "embedding"]}}
    plan = plan_experiment(config({"strategies": strategies}), tmp_path / "run")
    assert {cell.exact for cell in plan.cells if "embedding" not in cell.name} == {True}
    assert [cell.exact for cell in plan.cells if "embedding" in cell.name] == [False]


def test_memory_with_and_without(config: Callable[..., Any], tmp_path: Path) -> None:
    over = {"model": {"quantize": "nf4", "dtype": "bfloat16"}}
    plan = plan_experiment(config(over), tmp_path / "run", memory=64 * GIB)
    ways = {(line.held, line.recompute): line for line in plan.memory}
    assert set(ways) == {(held, on) for held in ("dequantized", "packed") for on in (True, False)}
    assert all(line.fits and line.available == 64 * GIB for line in plan.memory)
    assert [line.held for line in plan.memory if line.chosen] == ["dequantized"]
    assert ways["packed", False].need.weights < ways["dequantized", False].need.weights
    assert ways["packed", True].need.training < ways["packed", False].need.training
    for line in plan.memory:
        need = line.need
        assert need.peak == need.process + need.weights + max(need.loading, need.scoring, need.training)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cpu", "bfloat16"), ("cuda", "bfloat16")])
def test_a_training_takes_what_the_training_itself_expects(
    device: str, dtype: DtypeName, config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU in 16 bits nothing is padded, so another pass may be the largest: it was looked for as if padded."""
    seen: list[dict[str, Any]] = []

    def recorded(*given: Any, **options: Any) -> PassSize:
        bound = inspect.signature(largest_pass).bind(*given, **options)
        bound.apply_defaults()
        seen.append(dict(bound.arguments))
        return largest_pass(*given, **options)

    for module in (plan_memory, recompute):
        monkeypatch.setattr(module, "largest_pass", recorded)
    monkeypatch.setattr(recompute, "_held", lambda _: "plain")
    settings = config()
    header = read_header(settings.model)
    work = gather(ExperimentRows.read(settings, header), Silent())
    ways = memory_ways(settings, shape_of(header.config), work, Machine(device, dtype, "", 1, True, 64 * GIB, 64 * GIB))
    model = SimpleNamespace(config=header.config)
    loaded: Any = SimpleNamespace(device=torch.device(device), dtype=DTYPES[dtype], model=model, info={})
    targets = tuple(shape_of(header.config).targets)
    estimates = recompute._estimates(loaded, work.trainings[0].train, settings.tune, targets, 1)
    assert seen[0] == seen[1]
    assert seen[0]["padded"] == (device == "cpu")
    for way in ways:
        estimate = estimates["plain", bool(way.recompute)]
        assert way.need.training == estimate.adapter + estimate.step


def test_a_machine_that_is_too_small(config: Callable[..., Any], tmp_path: Path) -> None:
    plan = plan_experiment(config(), tmp_path / "run", memory=100 << 20)
    assert not any(line.fits for line in plan.memory)
    assert plan.machine["named"]
    assert any("memory is too small" in warning for warning in plan.warnings)


def test_too_long_rows_are_counted(config: Callable[..., Any], tmp_path: Path, planned: Plan) -> None:
    plan = plan_experiment(config({"tune": {"max_tokens": 215}}), tmp_path / "run")
    (training,) = plan.trainings
    assert 0 < training.rows_too_long < 14
    assert training.rows == 14 - training.rows_too_long
    assert any(f"{training.rows_too_long} rows are too long" in warning for warning in plan.warnings)
    assert training.tokens < planned.trainings[0].tokens


def test_demonstrations_that_do_not_fit_are_counted(config: Callable[..., Any], tmp_path: Path) -> None:
    over = {"max_tokens": 560, "strategies": {"few_shot": {"k": [3], "seeds": [0]}}}
    plan = plan_experiment(config(over), tmp_path / "run")
    assert plan.cells[0].demos_dropped > 0
    assert plan.cells[0].longest <= 560
    assert any("don't fit 560 tokens" in warning for warning in plan.warnings)


def test_disk(planned: Plan, config: Callable[..., Any], tmp_path: Path) -> None:
    needed = {need.what: need.needed for need in planned.disk}
    adapter = planned.model["adapter_parameters"] * 4
    assert needed["adapters"] == 2 * adapter
    assert needed["checkpoints"] == 3 * adapter * 3  # two kept, and one being written
    assert "scores by content" not in needed  # cache: false
    assert all(need.fits and need.free > 0 for need in planned.disk)
    cached = plan_experiment(config({"cache": True}), tmp_path / "run")
    assert "scores by content" in {need.what for need in cached.disk}


def test_calibrating_times_the_model_and_is_remembered(
    config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    settings = config(weights=True)
    assert plan_experiment(settings, tmp_path / "run").rates.origin == "assumed"
    timed = plan_experiment(settings, tmp_path / "run", calibrate=True)
    assert timed.rates.origin == "calibrated"
    assert set(timed.rates.scoring) == {"zero_shot", "few_shot k=1", "few_shot k=3", "qlora", "any"}
    assert timed.rates.training > 0
    assert timed.rates.loading_seconds > 0
    again = plan_experiment(settings, tmp_path / "run")
    assert again.rates.origin == "remembered"
    assert again.seconds == pytest.approx(timed.seconds)
    other = plan_experiment(config({"model": {"dtype": "bfloat16"}}, weights=True), tmp_path / "run")
    assert other.rates.origin == "assumed"  # another dtype, another rate


def test_the_record_is_plain(planned: Plan) -> None:
    record = json.loads(json.dumps(planned.record()))
    assert record["memory"][0]["fits"] is True
    assert record["memory"][0]["need"]["peak"] == planned.memory[0].need.peak
    assert record["cells"][0]["name"] == "zero_shot/default"
    assert record["rates"]["origin"] in ("assumed", "remembered")
    assert record["rates"]["said"]


@pytest.mark.parametrize(
    ("over", "error", "part"),
    [
        ({"tune": {"max_tokens": 215, "long_rows": "error"}}, DataError, "longer than the limit"),
        ({"model": {"name": "/no/such/model"}}, ModelError, "no such model folder"),
        ({"model": {"name": "nobody/nothing"}}, ModelError, "the hub can't be reached"),
        ({"data": {"test": "none.json"}}, DataError, "none.json"),
        ({"strategies": {"few_shot": {"k": [99]}}}, ConfigError, "more demonstrations are asked for"),
    ],
)
def test_what_a_run_would_refuse(
    config: Callable[..., Any], tmp_path: Path, over: dict[str, Any], error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        plan_experiment(config(over), tmp_path / "run")
