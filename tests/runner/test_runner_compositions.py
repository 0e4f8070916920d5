"""Several trainings in one run, adapters under other prompts and with demonstrations, and choosing on dev rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.data import Dataset, Row
from triptych.errors import ConfigError
from triptych.grid.cells import TrainingSpec
from triptych.grid.renderer import ContextLimit
from triptych.grid.rows import ExperimentRows
from triptych.models import load_adapter, load_model
from triptych.prompts import find_template
from triptych.records import RunRecord
from triptych.records.store import read_items
from triptych.runner import search, session
from triptych.runner.run import run_experiment
from triptych.runner.search import rounds

Project = Callable[..., Path]
QLORA: dict[str, Any] = {
    "zero_shot": {"prompts": ["default"]},
    "few_shot": None,
    "qlora": {"trained_k": [0, 2], "score": [{"prompts": ["emotional"]}, {"k": [2]}]},
}


def run(path: Path, out: Path) -> RunRecord:
    return run_experiment(read_config(path), out)


@pytest.mark.usefixtures("no_report")
def test_trainings_and_compositions_are_cells_of_one_run(project: Project, tmp_path: Path) -> None:
    record = run(project(strategies=QLORA, tune={"epochs": 1, "eval_every": 99}), tmp_path / "run")
    cells = {cell.cell: cell for cell in record.cells}
    assert list(cells) == [
        "zero_shot/default",
        "qlora/default",
        "qlora/emotional/trained=default",
        "qlora/default/k=2/draw=item/seed=0",
        "qlora/default/k=2/draw=item/seed=0/trained_k=2/train_seed=0",
        "qlora/emotional/trained=default/trained_k=2/train_seed=0",
    ]
    assert [(one.name, one.k, one.seed) for one in record.trainings] == [
        ("default/train_seed=0", 0, 0),
        ("default/k=2/train_seed=0", 2, 0),
    ]
    assert record.tune == record.trainings[0]
    assert [point.step for point in record.curve] == [0, first_steps := record.trainings[0].steps]
    assert list(record.further_curves) == ["default/k=2/train_seed=0"]
    further = record.further_curves["default/k=2/train_seed=0"]
    assert [point.step for point in further] == [0, first_steps]
    as_trained = cells["qlora/default/k=2/draw=item/seed=0/trained_k=2/train_seed=0"]
    assert further[-1].aggregate == as_trained.aggregate
    assert all(point.ci_low is not None for point in further)
    first, second = record.trainings
    assert first.adapter_sha256 != second.adapter_sha256
    assert second.tokens > first.tokens  # demonstrations are read in training too
    assert second.scored_tokens == first.scored_tokens  # and never trained on
    for cell in record.cells:
        if cell.strategy == "qlora":
            assert cell.adapter_sha256 == (second if cell.trained_k else first).adapter_sha256
    # every cell with an adapter is what that adapter, loaded alone, gives
    loaded = load_model(read_config(project(strategies=QLORA)).model)
    adapter, _ = load_adapter(loaded, tmp_path / "run" / "trainings" / "default__k=2__train_seed=0" / "final")
    assert adapter.sha256() == second.adapter_sha256
    items = read_items(tmp_path / "run" / "items.parquet")
    demos = {item.demo_ids for item in items["qlora/default/k=2/draw=item/seed=0"]}
    assert all(len(shown) == 2 for shown in demos)


@pytest.mark.usefixtures("no_report")
def test_adapters_of_several_seeds_differ_and_do_not_leak_into_each_other(project: Project, tmp_path: Path) -> None:
    def settings(*seeds: int) -> dict[str, Any]:
        return {
            "strategies": {"zero_shot": None, "few_shot": None, "qlora": {"seeds": list(seeds)}},
            "tune": {"epochs": 1, "eval_every": 99},
        }

    both = run(project(**settings(0, 1)), tmp_path / "both")
    alone = run(project(**settings(1)), tmp_path / "alone")
    a, b = both.cells
    assert a.aggregate != b.aggregate
    assert b.train_seed == 1
    assert b.adapter_sha256 == alone.cells[0].adapter_sha256  # as if the first had never been on the model
    assert b.aggregate == alone.cells[0].aggregate


def test_a_training_row_is_never_among_its_own_demonstrations() -> None:
    class Bytes:
        bos_id, eos_id = 256, 257

        def encode(self, text: str) -> list[int]:
            return list(text.encode())

    rows = [Row(f"train-{i}", f"問{i}", f"答{i}") for i in range(5)]
    data, templates = Dataset(tuple(rows), (), ()), {"default": find_template("default")}
    tokenizer: Any = Bytes()
    rendered = ExperimentRows(ExperimentConfig(), data, templates, tokenizer, ContextLimit(9999))
    trained = rendered.training(TrainingSpec("default", k=4)).train
    for row, shown in zip(rows, trained, strict=True):
        assert set(shown.demo_ids) == {other.id for other in rows} - {row.id}


# --- choosing on dev rows

SEARCH: dict[str, Any] = {
    "zero_shot": {"prompts": ["emotional"]},
    "few_shot": None,
    "qlora": None,
    "search": {"prompts": ["default", "emotional"], "k": [0, 1, 2], "start_rows": 2},
}


def test_rounds_halve_settings_and_double_rows() -> None:
    assert rounds(8, 100, 10) == [(8, 10), (4, 20), (2, 40), (1, 80)]
    assert rounds(5, 30, 16) == [(5, 16), (3, 30)]
    assert rounds(1, 30, 16) == [(1, 16)]
    assert rounds(3, 10, 16) == [(3, 10)]


@pytest.mark.usefixtures("no_report")
def test_a_search_scores_its_winner_once_on_test(project: Project, tmp_path: Path) -> None:
    path = project(strategies=SEARCH, data={"dev_rows": 6})
    record = run(path, tmp_path / "run")
    assert record.search is not None
    assert len(record.search.candidates) == 6
    assert record.search.n_dev == 6
    assert record.search.rows_scored == 6 * 2 + 3 * 2 + 2 * 2
    assert [c.rounds for c in record.search.candidates] == [3, 3, 2, 1, 1, 1]
    finals = record.search.candidates[:2]
    assert finals[0].ppl_mean <= finals[1].ppl_mean
    assert record.search.winner == finals[0].cell
    marked = [cell for cell in record.cells if cell.searched]
    assert [cell.cell for cell in marked] == [record.search.winner]
    assert marked[0].searched == 6
    assert marked[0].aggregate.n_rows == 6  # the test set's
    assert {cell.cell for cell in record.cells} == {"zero_shot/emotional", record.search.winner}


@pytest.mark.usefixtures("no_report")
def test_an_interrupted_search_goes_on_and_ends_the_same(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(strategies=SEARCH, data={"dev_rows": 6})
    whole = run(path, tmp_path / "whole")
    real, calls = search._score, []

    def failing(*args: Any) -> None:
        calls.append(args[1].name)
        if len(calls) == 8:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(search, "_score", failing)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "cut")
    kept = json.loads((tmp_path / "cut" / "search.json").read_text())["ppl"]
    assert sum(map(len, kept.values())) == 6 * 2 + 2
    again = run(path, tmp_path / "cut")
    assert len(calls) == 6 + 3 + 2 + 1  # nothing twice but the one that was cut
    assert whole.search is not None and again.search is not None
    assert again.search.candidates == whole.search.candidates


def test_a_search_without_dev_rows_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key `data\.dev_rows`[\s\S]*to choose on"):
        run(project(strategies=SEARCH), tmp_path / "run")
    assert not (tmp_path / "run" / "run.lock.json").exists()


# --- texts

WRITE: dict[str, Any] = {
    "strategies": {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1, 2], "seeds": [0]}, "qlora": {}},
    "tune": {"epochs": 1, "eval_every": 99},
    "generate": {"max_new_tokens": 5, "rows": 4},
}


@pytest.mark.usefixtures("no_report")
def test_texts_of_the_best_cells_are_written_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(**WRITE)
    record = run(path, tmp_path / "run")
    best = min((c for c in record.cells if c.strategy == "few_shot"), key=lambda c: c.aggregate.ppl_mean)
    assert [one.cell for one in record.generations] == ["zero_shot/default", best.cell, "qlora/default"]
    for one in record.generations:
        assert one.n_rows == 4
        assert sum(one.stopped_by.values()) == 4
        assert one.n_tokens <= 20
        assert set(one.row_chrf) == {"test-0", "test-1", "test-2", "test-3"}
        assert "nc:6|nw:2" in one.chrf_signature
    texts = json.loads((tmp_path / "run" / "predictions" / "qlora__default.json").read_text(encoding="utf-8"))
    assert [text["id"] for text in texts] == ["test-0", "test-1", "test-2", "test-3"]
    assert not list((tmp_path / "run" / "predictions").glob("*.part"))

    def never(*_: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(session, "load_model", never)
    assert run(path, tmp_path / "run").generations == record.generations


def test_texts_of_an_unknown_cell_are_refused_before_any_work(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generate\.cells[\s\S]*did you mean `zero_shot/default`"):
        run(project(**{**WRITE, "generate": {"cells": ["zero_shot/defalt"]}}), tmp_path / "run")
    assert not (tmp_path / "run" / "run.lock.json").exists()
