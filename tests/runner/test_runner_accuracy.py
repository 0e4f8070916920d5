"""A run that measures accuracy: options in every cell, in its records, and when it is asked for later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny_experiment import merged, settings
from triptych.config.read import read_config
from triptych.errors import DataError
from triptych.records.store import read_items, read_run
from triptych.runner.run import run_experiment

LABELS = ("arrival", "card", "cash out")


@pytest.fixture
def classify(tmp_path: Path, fake_folder: Callable[..., Path]) -> Callable[..., Path]:
    """`classify(uniform=False, **over)`: a YAML with three labels in 12 training and 6 test rows; the last test row's
    output is no label.
    """

    def write(*, uniform: bool = False, **over: Any) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, n in (("train", 12), ("test", 6)):
            rows = [{"id": f"{name}-{i}", "instruction": f"{name} {i}", "output": LABELS[i % 3]} for i in range(n)]
            if name == "test":
                rows[-1]["output"] = "a stranger"
            (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        value = settings(fake_folder("llama", uniform=True) if uniform else fake_folder("llama"))
        value["strategies"] = {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1], "seeds": [0, 1]}}
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(merged(value, {"metrics": ["accuracy", "perplexity"], **over})))
        return path

    return write


def test_the_shortest_option_wins_where_every_token_costs_the_same(
    classify: Callable[..., Path], tmp_path: Path
) -> None:
    record = run_experiment(read_config(classify(uniform=True)), tmp_path / "run", on="local:1")
    assert record.metrics == ("accuracy", "perplexity")
    assert record.choices == LABELS
    assert record.majority == pytest.approx(2 / 6)  # all labels are as frequent: the first is the majority
    for cell in record.cells:
        found = cell.aggregate.metrics["accuracy"]
        assert (found.value, found.n) == (pytest.approx(2 / 6), 6)  # `card`, the shortest
        assert found.ci_low is not None and found.ci_high is not None and found.ci_low < 2 / 6 < found.ci_high
        assert cell.options_sha256
    for items in read_items(tmp_path / "run" / "items.parquet").values():
        assert [item.chosen for item in items] == ["card"] * 6
        assert [item.correct for item in items] == [0, 1, 2, 0, 1, None]
        assert [item.metrics["accuracy"] for item in items] == [0, 1, 0, 0, 1, 0]
        for item in items:
            assert set(item.metrics) == {
                "accuracy",
                *(f"accuracy_{w}" for w in ("token", "char", "no_eos", "no_eos_char")),
            }
            assert len(item.option_nll) == 3
    assert any("1 of 6 test rows" in warning and "a stranger" in warning for warning in record.warnings)
    assert read_run(tmp_path / "run") == record


def test_accuracy_leaves_perplexity_as_it_is(classify: Callable[..., Path], tmp_path: Path) -> None:
    without = run_experiment(read_config(classify(metrics=["perplexity"])), tmp_path / "without", on="local:1")
    alone = run_experiment(read_config(classify()), tmp_path / "with", on="local:2")
    for a, b in zip(without.cells, alone.cells, strict=True):
        assert a.aggregate.ppl_mean == pytest.approx(b.aggregate.ppl_mean, rel=1e-5)


def test_asked_for_later_it_is_computed_for_the_cells_that_lack_it(
    classify: Callable[..., Path], tmp_path: Path
) -> None:
    first = run_experiment(read_config(classify(metrics=["perplexity"])), tmp_path / "run", on="local:1")
    assert not first.cells[0].aggregate.metrics
    second = run_experiment(read_config(classify()), tmp_path / "run", on="local:1")
    assert all("accuracy" in cell.aggregate.metrics for cell in second.cells)
    other = run_experiment(
        read_config(classify(data={"choices": ["card", "cash out"]})), tmp_path / "run", on="local:1"
    )
    assert other.choices == ("card", "cash out")
    assert all(cell.aggregate.metrics["accuracy"].value != 1 for cell in other.cells)


def test_the_options_are_those_of_the_whole_train_file(classify: Callable[..., Path], tmp_path: Path) -> None:
    few = classify(data={"train_rows": 2})
    record = run_experiment(read_config(few), tmp_path / "run", on="local:1")
    assert record.choices == LABELS


def test_what_can_not_be_options_is_refused_before_any_work(classify: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no_such"):
        run_experiment(read_config(classify(data={"choices": "no_such"})), tmp_path / "run", on="local:1")
    assert not (tmp_path / "run").exists()


def test_a_search_goes_by_the_first_metric(classify: Callable[..., Path], tmp_path: Path) -> None:
    searched = {"search": {"prompts": ["default", "emotional"], "k": [0, 1], "seeds": [0], "start_rows": 2}}
    over = {"data": {"dev_rows": 4}, "strategies": {"zero_shot": None, "few_shot": None, "qlora": None, **searched}}
    record = run_experiment(read_config(classify(**over)), tmp_path / "run", on="local:1")
    assert record.search is not None
    last = [one for one in record.search.candidates if one.rounds == record.search.candidates[0].rounds]
    best = max(last, key=lambda one: (one.value or 0, -one.ppl_mean))
    assert record.search.winner == best.cell
    stored = json.loads((tmp_path / "run" / "search.json").read_text(encoding="utf-8"))
    assert {cell: len(values) for cell, values in stored["values"].items()} == {
        cell: len(values) for cell, values in stored["ppl"].items()
    }
    assert record.search.metric == "accuracy"
