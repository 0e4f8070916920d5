"""A run that measures texts: written by themselves, measured row by row; a metric that fails loses nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.experiment import ExperimentConfig
from triptych.config.generate import GenerateConfig
from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError, RunChangedError
from triptych.generate.resume_file import PartFile
from triptych.generate.settings import Generated
from triptych.records import RunRecord
from triptych.records.store import read_items
from triptych.report import Study
from triptych.report.tables.trainings import search_table
from triptych.runner import live, search
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
    short = read_config(project(metrics=["f1"], generate={"max_new_tokens": 4}, **FEW))
    assert short.generate is not None and (short.generate.cells, short.generate.max_new_tokens) == ("all", 4)
    given = ExperimentConfig(metrics=("f1",), generate=GenerateConfig(rows=3))
    assert given.generate is not None and (given.generate.cells, given.generate.rows) == ("all", 3)
    assert ExperimentConfig(generate=GenerateConfig(rows=3)).generate == GenerateConfig(rows=3, cells="best")


def test_a_reference_without_a_number_is_found_before_any_work(project: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no number"):
        run_experiment(read_config(project(metrics=["number"], **FEW)), tmp_path / "run", on="local:1")
    assert not (tmp_path / "run").exists()


def test_a_reference_that_is_no_json_is_found_before_any_work(project: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 'test-0'"):
        run_experiment(read_config(project(metrics=["json"], **FEW)), tmp_path / "run", on="local:1")
    assert not (tmp_path / "run").exists()


SEARCH: dict[str, Any] = {
    "strategies": {
        "zero_shot": None,
        "few_shot": None,
        "qlora": None,
        "search": {"prompts": ["default", "emotional"], "k": [0, 1], "seeds": [0], "start_rows": 2},
    },
    "data": {"dev_rows": 4},
}


@pytest.mark.usefixtures("no_report")
def test_a_search_goes_by_a_metric_of_texts_and_resumes(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the longer text is the better one: what decides are the texts that each candidate writes for the dev rows
    (tmp_path / "length.py").write_text("def f(text, reference):\n    return float(len(text))\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = read_config(project(metrics=["length:f", "perplexity"], generate={"max_new_tokens": 6}, **SEARCH))
    calls, write = 0, search.generate_rows

    def fails_at_the_third(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return write(*args, **kwargs)

    monkeypatch.setattr(search, "generate_rows", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, tmp_path / "run", on="local:1")
    record = run_experiment(config, tmp_path / "run", on="local:1").search
    assert calls == 3 + 2 + 2  # two candidates of four are left of the first round; the second round has two
    whole = run_experiment(config, tmp_path / "whole", on="local:1").search
    assert record is not None and whole is not None
    assert record.metric == "length:f"
    assert [(one.cell, one.value) for one in record.candidates] == [(one.cell, one.value) for one in whole.candidates]
    last = [one for one in record.candidates if one.rounds == 2]
    assert record.winner == max(last, key=lambda one: (one.value or 0, -one.ppl_mean)).cell
    assert search_table(record).columns[3] == "length:f (dev)"


@pytest.mark.usefixtures("no_report")
def test_a_search_whose_metric_fails_goes_on_by_perplexity(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_good.py").write_text("def f(text, reference):\n    return float('nan')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = read_config(project(metrics=["no_good:f", "perplexity"], generate={"max_new_tokens": 2}, **SEARCH))
    record = run_experiment(config, tmp_path / "run", on="local:1")
    assert record.search is not None and record.search.metric == "perplexity"
    last = [one for one in record.search.candidates if one.rounds == 2]
    assert record.search.winner == min(last, key=lambda one: one.ppl_mean).cell
    assert {one.value for one in record.search.candidates} == {None}
    assert "row" in (tmp_path / "run" / "run.log").read_text(encoding="utf-8")


def test_a_search_by_numbers_looks_at_the_dev_rows_first(project: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no number"):
        run_experiment(read_config(project(metrics=["number"], **SEARCH)), tmp_path / "run", on="local:1")


def test_an_unknown_metric_is_guessed(project: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="did you mean `exact_match`"):
        read_config(project(metrics=["exact-mach"], **FEW))


@pytest.mark.usefixtures("no_report")
def test_a_metric_of_texts_can_be_added_changed_and_left_out_later(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module lies beside the YAML, and the command runs elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [*sys.path])
    out = tmp_path / "run"

    def values(metrics: list[str]) -> list[dict[str, float]]:
        config = read_config(project(metrics=metrics, **FEW))
        record = run_experiment(config, out, on="local:1")
        return [{name: one.value for name, one in cell.aggregate.metrics.items()} for cell in record.cells]

    assert values(["perplexity"]) == [{}, {}]
    scored = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    module = tmp_path / "changing_metric.py"
    module.write_text("def f(text, reference):\n    return 0.5\n", encoding="utf-8")
    assert values(["perplexity", "changing_metric:f"]) == [{"changing_metric:f": 0.5}] * 2
    written = {path: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
    assert len(written) == 4
    module.write_text("def f(text, reference):\n    return 0.25 + 0\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "changing_metric")
    assert values(["perplexity", "changing_metric:f"]) == [{"changing_metric:f": 0.25}] * 2
    assert [set(one) for one in values(["f1", "perplexity"])] == [{"f1"}, {"f1"}]
    assert {path: path.stat().st_mtime_ns for path in [*scored, *written]} == {**scored, **written}


@pytest.mark.usefixtures("no_report")
def test_rows_that_were_written_before_a_kill_are_kept(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"strategies": {**FEW["strategies"], "few_shot": None}, "generate": {"max_new_tokens": 6}}
    config = read_config(project(metrics=["chrf", "perplexity"], **whole))
    undisturbed = run_experiment(config, tmp_path / "undisturbed", on="local:1")
    add, added = PartFile.add, []

    def killed(part: PartFile, row: Generated) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        add(part, row)
        added.append(row.row_id)

    monkeypatch.setattr(PartFile, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, tmp_path / "run", on="local:1")
    first = list(added)
    added.clear()
    monkeypatch.setattr(PartFile, "add", lambda part, row: (add(part, row), added.append(row.row_id))[0])
    record = run_experiment(config, tmp_path / "run", on="local:1")
    assert len(first) == 2 and len(added) == 4 and not {*first} & {*added}
    assert [one.row_metrics for one in record.generations] == [one.row_metrics for one in undisturbed.generations]
    assert record.cells[0].aggregate.metrics["chrf"] == undisturbed.cells[0].aggregate.metrics["chrf"]


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"metrics": ["f1", "perplexity"]}, {"metrics": ["perplexity"]}),  # no texts any more
        (
            {"metrics": ["perplexity"], "generate": {}},
            {"metrics": ["f1"], "generate": {}},
        ),  # in all cells, not the best
        ({"metrics": ["f1"], "generate": {"cells": "best"}}, {"metrics": ["f1"], "generate": {"cells": "all"}}),
    ],
)
def test_a_run_goes_on_when_texts_are_left_out_or_written_in_other_cells(
    first: dict[str, Any], then: dict[str, Any], project: Callable[..., Path], tmp_path: Path
) -> None:
    prompts = {"strategies": {"zero_shot": {"prompts": ["default", "emotional"]}, "few_shot": None, "qlora": None}}

    def run(asked: dict[str, Any]) -> RunRecord:
        written = {**asked.get("generate", {}), "max_new_tokens": 3} if "generate" in asked else None
        over = {**asked, **({} if written is None else {"generate": written}), **prompts}
        return run_experiment(read_config(project(**over)), tmp_path / "run", on="local:1")

    run(first)
    texts = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "predictions").iterdir()}
    record = run(then)
    expected = {"f1"} if "f1" in then["metrics"] else set()
    assert [set(cell.aggregate.metrics) for cell in record.cells] == [expected, expected]
    assert {path: path.stat().st_mtime_ns for path in texts} == texts  # what was written is not written again


@pytest.mark.usefixtures("no_report")
def test_texts_of_other_settings_are_still_refused(project: Callable[..., Path], tmp_path: Path) -> None:
    run_experiment(read_config(project(metrics=["f1"], generate={"max_new_tokens": 3}, **FEW)), tmp_path / "run")
    with pytest.raises(RunChangedError, match=r"generate\.max_new_tokens: 3 -> 4"):
        run_experiment(read_config(project(metrics=["f1"], generate={"max_new_tokens": 4}, **FEW)), tmp_path / "run")


BARE = {"prompts": {"bare": "{instruction}"}, "strategies": {"zero_shot": {"prompts": ["bare"]}}}


@pytest.mark.parametrize("asked", [{}, {"generate": {"cells": ["zero_shot/bare"]}}])
def test_prompts_without_room_for_new_tokens_are_found_before_any_work(
    asked: dict[str, Any], project: Callable[..., Path], tmp_path: Path
) -> None:
    alone = {"strategies": {**BARE["strategies"], "few_shot": None, "qlora": None}, "prompts": BARE["prompts"]}
    config = read_config(project(metrics=["f1"], max_tokens=100, **alone, **asked))
    with pytest.raises(DataError) as raised:
        run_experiment(config, tmp_path / "run", on="local:1")
    said = str(raised.value)
    assert "256 new tokens, and 6 rows: test-0" in said and "lower generate.max_new_tokens" in said
    assert not (tmp_path / "run" / "cells").exists()
    enough = read_config(project(metrics=["f1"], max_tokens=100, generate={"max_new_tokens": 3}, **alone))
    assert run_experiment(enough, tmp_path / "run", on="local:1").cells[0].aggregate.metrics["f1"].n == 6


def test_the_report_of_a_run_that_goes_on_has_the_metrics_of_texts(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EVERY", 0.0), ("SHARE", 1e9), ("LOOK", 0.0)):
        monkeypatch.setattr(live, name, value)
    seen: list[Study] = []
    monkeypatch.setattr(live, "build_so_far", lambda _, study, texts: seen.append(study))
    config = read_config(project(metrics=["f1", "perplexity"], generate={"max_new_tokens": 3}, **FEW))
    run_experiment(config, tmp_path / "run", on="local:1")
    between = [study.record for study in seen if len(study.record.generations) == 1]
    assert between
    for record in between:
        names = {cell.cell: set(cell.aggregate.metrics) for cell in record.cells}
        assert names == {**{name: set() for name in names}, record.generations[0].cell: {"f1"}}
