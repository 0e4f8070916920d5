"""Every configuration that ships is valid; the one of `make demo` runs, cut down, on a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.grid.cells import grid
from triptych.grid.inputs import templates_of
from triptych.runner.run import run_experiment

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))


def test_there_are_examples() -> None:
    assert {"demo.yaml", "sample.yaml", "experiment.yaml", "small.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(EXAMPLES)) for path in FILES])
def test_an_example_is_valid(path: Path) -> None:
    config = read_config(path)
    assert templates_of(config)
    names = [cell.name for cell in grid(config)]
    assert len(names) == len(set(names)) > 0
    assert yaml.safe_load(path.read_text(encoding="utf-8")).keys() <= ExperimentConfig.model_fields.keys()


def test_the_studys_settings_are_the_studys() -> None:
    config = read_config(EXAMPLES / "hw3" / "experiment.yaml")
    tune = config.tune
    assert (tune.r, tune.alpha, tune.epochs, tune.lr, tune.batch_size, tune.accumulation) == (64, 16, 3, 3e-5, 4, 4)
    assert tune.total_steps(10_000) == 1875
    assert config.data.train_rows is None
    assert config.data.test_rows is None
    few = config.strategies.few_shot
    assert few is not None
    assert (few.k, few.seeds, few.draw) == ((1, 2, 3, 10), (0, 1, 2), ("item",))
    assert (config.model.quantize, config.model.double_quant, config.model.dtype) == ("nf4", True, "bfloat16")


def test_small_is_the_same_grid_on_the_bundled_model() -> None:
    study, small = (read_config(EXAMPLES / "hw3" / name) for name in ("experiment.yaml", "small.yaml"))
    assert grid(study) == grid(small)
    assert small.model.name == "demo"
    assert small.data.test_rows is None
    assert small.data.train_rows is None or small.data.train_rows >= 1000


def test_the_demo_is_the_sample_on_fewer_rows() -> None:
    demo, sample = (read_config(EXAMPLES / name) for name in ("demo.yaml", "sample.yaml"))
    assert grid(demo) == grid(sample)
    assert demo.model == sample.model
    assert demo.tune.model_copy(update={"eval_every": None}) == sample.tune.model_copy(update={"eval_every": None})
    assert (demo.data.dir, demo.data.test_rows) == (sample.data.dir, None)


def test_the_sample_runs_from_end_to_end(fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    sets = [
        f"model.name={fake_folder('gemma3')}",
        "model.dtype=float32",
        "model.device=cpu",
        "model.threads=1",
        "data.train_rows=12",
        "data.test_rows=3",
        "max_tokens=4096",  # bytes are many
        "tune.epochs=1",
        "tune.batch_size=4",
        "tune.max_tokens=4096",
    ]
    config = read_config(EXAMPLES / "sample.yaml", sets)
    record = run_experiment(config, tmp_path / "run")
    assert [cell.cell for cell in record.cells] == [cell.name for cell in grid(config)]
    assert {cell.aggregate.n_rows for cell in record.cells} == {3}
    assert record.provenance["data"]["train"]["n_rows"] == 280
    assert record.warnings == ()
    assert (tmp_path / "run" / "report.md").is_file()
