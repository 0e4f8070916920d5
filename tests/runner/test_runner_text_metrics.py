"""A run that measures texts: written by themselves, measured row by row; a metric that fails loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError
from triptych.records.store import read_items
from triptych.runner.run import run_experiment

FEW = {"strategies": {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1], "seeds": [0]}, "qlora": None}}


def test_texts_are_written_in_every_cell_and_their_values_are_in_rows_and_averages(
    project: Callable[..., Path], tmp_path: Path
) -> None:
    config = read_config(project(metrics=["f1", "exact_match", "perplexity"], **FEW))
    assert config.generate is not None and config.generate.cells == "all"
    record = run_experiment(config, tmp_path / "run", on="local:1")
    items = read_items(tmp_path / "run" / "items.parquet")
    assert {one.cell for one in record.generations} == set(items)
    for cell in record.cells:
        assert set(cell.aggregate.metrics) == {"f1", "exact_match"}
        for name, metric in cell.aggregate.metrics.items():
            values = [item.metrics[name] for item in items[cell.cell]]
            assert metric.n == len(values) == 6
            assert metric.value == pytest.approx(sum(values) / 6)
    again = run_experiment(config, tmp_path / "run", on="local:1")
    assert [cell.aggregate for cell in again.cells] == [cell.aggregate for cell in record.cells]


def test_a_metric_that_fails_is_named_and_all_else_is_there(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_metric.py").write_text("def f(text, reference):\n    raise KeyError('oh')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = read_config(project(metrics=["perplexity", "f1", "broken_metric:f"], **FEW))
    record = run_experiment(config, tmp_path / "run", on="local:1")
    for written in record.generations:
        assert "row 'test-0'" in written.metric_errors["broken_metric:f"]
        assert set(written.row_metrics) == {"f1"}
    assert all(set(cell.aggregate.metrics) == {"f1"} for cell in record.cells)
    (tmp_path / "broken_metric.py").write_text("def f(text, reference):\n    return 0.5\n", encoding="utf-8")
    monkeypatch.delitem(__import__("sys").modules, "broken_metric")
    mended = run_experiment(config, tmp_path / "run", on="local:1")  # from the texts that are there
    assert all(cell.aggregate.metrics["broken_metric:f"].value == 0.5 for cell in mended.cells)


def test_no_texts_and_a_metric_of_texts_do_not_go_together(project: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="generate"):
        read_config(project(metrics=["f1"], generate=None, **FEW))
    own = read_config(project(metrics=["f1"], generate={"cells": "best", "max_new_tokens": 4}, **FEW))
    assert own.generate is not None and own.generate.cells == "best"


def test_a_reference_without_a_number_is_found_before_any_work(project: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no number"):
        run_experiment(read_config(project(metrics=["number"], **FEW)), tmp_path / "run", on="local:1")
    assert not (tmp_path / "run").exists()
