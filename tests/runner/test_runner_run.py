"""A run's files agree, nothing that is done is done again, and what doesn't fit is refused or counted."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError, DiskError, ModelError, RunChangedError, TriptychError
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer
from triptych.records import ItemScore, RunRecord
from triptych.records.store import read_items, read_run
from triptych.records.texts import read_rows_shown, read_tokens
from triptych.report import interval
from triptych.runner import scoring, session
from triptych.runner.folder import RunFolder
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
Numbers = Callable[[Path], dict[str, Any]]

ZERO = {"few_shot": None, "qlora": None}
BASE = {"qlora": None}
SHORT = {"zero_shot": None, "few_shot": None}


class Reporter:
    """Remembers what was said and which stretches of work there were."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.phases: list[str] = []

    def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Any:
        self.phases.append(title)
        return nullcontext(lambda _: None)

    def info(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


def run(path: Path, out: Path, *sets: str, fresh: bool = False, reporter: Reporter | None = None) -> RunRecord:
    return run_experiment(read_config(path, sets), out, fresh=fresh, reporter=reporter)


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run of one's own: (its YAML, its folder)."""
    shutil.copytree(undisturbed.parent, tmp_path / "copy")
    return tmp_path / "copy" / "experiment.yaml", tmp_path / "copy" / "run"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the scorer got."""
    calls: list[int] = []
    real = Scorer.score

    def counted(self: Scorer, rows: Any, progress: Any = None) -> Any:
        calls.append(len(rows))
        return real(self, rows, progress)

    monkeypatch.setattr(Scorer, "score", counted)
    return calls


# --- what a run leaves


def test_cells_of_the_whole_grid_in_order(undisturbed: Path) -> None:
    record = read_run(undisturbed)
    assert [cell.cell for cell in record.cells] == [
        "zero_shot/default",
        "zero_shot/emotional",
        *(f"few_shot/default/k={k}/draw=item/seed={seed}" for k in (1, 2, 3) for seed in (0, 1)),
        "qlora/default",
    ]
    assert [cell.adapter_sha256 for cell in record.cells[:-1]] == [None] * 8
    assert record.tune is not None
    assert record.cells[-1].adapter_sha256 == record.tune.adapter_sha256
    assert {(cell.k, cell.seed, cell.draw) for cell in record.cells if cell.strategy != "few_shot"} == {(0, None, None)}


def test_items_and_results_agree(undisturbed: Path) -> None:
    record, items = read_run(undisturbed), read_items(undisturbed / "items.parquet")
    assert list(items) == [cell.cell for cell in record.cells]
    for cell in record.cells:
        assert aggregate(items[cell.cell]) == cell.aggregate
        assert [item.id for item in items[cell.cell]] == [f"test-{i}" for i in range(6)]
        assert {item.n_demos for item in items[cell.cell]} == {cell.k}
        for item in items[cell.cell]:
            assert len(item.demo_ids) == cell.k
            assert all(demo.startswith("train-") for demo in item.demo_ids)


def test_few_shot_is_mean_and_deviation_over_seeds(undisturbed: Path) -> None:
    record = read_run(undisturbed)
    cells = {cell.cell: cell.aggregate for cell in record.cells}
    assert [one.k for one in record.few_shot] == [1, 2, 3]
    for one in record.few_shot:
        assert one.seeds == (0, 1)
        for metric in ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char"):
            values = [getattr(cells[name], metric) for name in one.cells]
            averaged = getattr(one, metric)
            assert averaged.mean == pytest.approx(statistics.mean(values), rel=1e-12)
            assert averaged.std == pytest.approx(statistics.stdev(values), rel=1e-9)  # n - 1
            assert averaged.n == 2


def test_curve_ends_where_the_table_stands(undisturbed: Path) -> None:
    record = read_run(undisturbed)
    assert [point.step for point in record.curve] == [0, 4, 8]
    by_name = {cell.cell: cell.aggregate for cell in record.cells}
    # one scorer: the untrained adapter is the base model, and the last point is the final cell
    assert record.curve[0].aggregate.ppl_mean == pytest.approx(by_name["zero_shot/default"].ppl_mean, rel=1e-6)
    assert record.curve[-1].aggregate == by_name["qlora/default"]
    assert by_name["qlora/default"].ppl_mean < by_name["zero_shot/default"].ppl_mean
    with (undisturbed / "curve.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, point in zip(lines, record.curve, strict=True):
        assert int(line["step"]) == point.step
        assert float(line["ppl_mean"]) == point.aggregate.ppl_mean
        assert point.ci_low is not None
        assert point.ci_high is not None
        assert point.ci_low < point.aggregate.ppl_mean < point.ci_high
        assert (float(line["ci_low"]), float(line["ci_high"])) == (point.ci_low, point.ci_high)
    items = read_items(undisturbed / "items.parquet")["qlora/default"]
    last = (record.curve[-1].ci_low, record.curve[-1].ci_high)
    # the final cell's own; of so few rows, a mean that ties in its last bits moves BCa's levels a little
    assert last == pytest.approx(interval([item.ppl for item in items]), rel=1e-2)


def test_files_of_the_report_are_there(undisturbed: Path) -> None:
    report = (undisturbed / "report.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\((figures/[^)]+)\)", report))
    assert len(shown) >= 3
    assert all((undisturbed / name).is_file() for name in shown)
    assert {path.suffix for path in (undisturbed / "figures").iterdir()} == {".png", ".svg"}
    assert all(path.stat().st_size > 1000 for path in (undisturbed / "figures").iterdir())
    assert (undisturbed / "adapter" / "adapter_config.json").is_file()
    with (undisturbed / "tables" / "cells.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, cell in zip(lines, read_run(undisturbed).cells, strict=True):
        assert float(line["ppl_mean"]) == pytest.approx(cell.aggregate.ppl_mean, rel=1e-6)
        assert int(line["tokens"]) == cell.aggregate.n_tokens


def test_token_nll_adds_up_to_the_rows(undisturbed: Path) -> None:
    tokens, items = read_tokens(undisturbed / "tokens.parquet"), read_items(undisturbed / "items.parquet")
    texts = read_rows_shown(undisturbed / "rows.parquet")
    for cell, rows in items.items():
        for item in rows:
            assert len(tokens.nll[cell][item.id]) == item.n_tokens
            assert sum(tokens.nll[cell][item.id]) == pytest.approx(item.nll_nats, abs=1e-3)
    for row, pieces in tokens.pieces.items():
        assert "".join(text for text, _ in pieces).startswith(texts["test"][row][1])
    shown = {demo for rows in items.values() for item in rows for demo in item.demo_ids}
    assert set(texts["demo"]) == shown


def test_provenance_holds_what_reproduces_it(undisturbed: Path) -> None:
    facts = read_run(undisturbed).provenance
    assert facts["seeds"] == {"demonstrations": [0, 1], "tune": 0, "data": 0}
    assert set(facts["data"]) == {"train", "test"}
    assert facts["data"]["test"]["n_rows_used"] == 6
    assert facts["config"]["tune"]["lr"] == 0.01
    assert facts["max_tokens"] == 2048
    assert facts["model"]["dtype"] == "float32"
    assert facts["model"]["passes"] == "packed"
    lock = json.loads((undisturbed / "run.lock.json").read_text())
    assert lock["model"]["weights_sha256"] == facts["model"]["weights_sha256"]
    assert "dir" not in lock["config"]["data"]


def test_max_tokens_is_recorded_as_it_was_used(project: Project, tmp_path: Path, no_report: None) -> None:
    record = run(project(strategies=ZERO, max_tokens=3000), tmp_path / "run")
    assert record.provenance["max_tokens"] == 3000
    assert run(project(strategies=ZERO, max_tokens=9999), tmp_path / "more").provenance["max_tokens"] == 4096


# --- nothing twice


def test_a_finished_run_computes_nothing(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, numbers: Numbers, undisturbed: Path
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(session, "load_model", never)
    reporter = Reporter()
    run(*copy, reporter=reporter)
    assert "9 of 9 cells are already scored" in reporter.said
    assert numbers(copy[1]) == numbers(undisturbed)


@pytest.mark.parametrize("name", ["zero_shot/emotional", "few_shot/default/k=2/draw=item/seed=1", "qlora/default"])
@pytest.mark.parametrize("harm", ["gone", "torn", "of fewer rows"])
def test_only_a_missing_cell_is_computed_again(
    name: str,
    harm: str,
    copy: tuple[Path, Path],
    scored: list[int],
    numbers: Numbers,
    undisturbed: Path,
    no_report: None,
) -> None:
    path = RunFolder(copy[1]).cell_path(name)
    others = {p: p.stat().st_mtime_ns for p in path.parent.iterdir() if p != path}
    if harm == "gone":
        path.unlink()
    elif harm == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        value = json.loads(path.read_text())
        value["items"].pop()
        path.write_text(json.dumps(value))
    run(*copy)
    assert scored == [6]
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert numbers(copy[1]) == numbers(undisturbed)


def test_an_adapter_whose_copy_was_cut_short_is_copied_again(
    copy: tuple[Path, Path], numbers: Numbers, undisturbed: Path, no_report: None
) -> None:
    adapter = copy[1] / "adapter"
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").write_bytes(whole[:100])
    (adapter / "triptych.json").unlink()  # it is written last
    RunFolder(copy[1]).cell_path("qlora/default").unlink()
    run(*copy)
    assert (adapter / "adapter_model.safetensors").read_bytes() == whole
    assert numbers(copy[1]) == numbers(undisturbed)


def test_dtype_and_threads_are_those_the_run_was_begun_with(copy: tuple[Path, Path], no_report: None) -> None:
    lock = json.loads((copy[1] / "run.lock.json").read_text())
    assert lock["chosen"]["dtype"] == "float32"
    RunFolder(copy[1]).cell_path("zero_shot/default").unlink()
    before = read_run(copy[1]).provenance["model"]
    record = run(*copy, "model.threads=2")  # not what decides a number, so not refused
    assert record.provenance["model"] == before


def test_prompts_whose_names_fall_on_one_file(project: Project, tmp_path: Path, no_report: None) -> None:
    prompts = {"a b": "{instruction} =", "a:b": "Say: {instruction}"}
    path = project(strategies={**ZERO, "zero_shot": {"prompts": list(prompts)}}, prompts=prompts)
    first = [cell.aggregate for cell in run(path, tmp_path / "run").cells]
    assert first[0] != first[1]
    assert [cell.aggregate for cell in run(path, tmp_path / "run").cells] == first


def test_what_was_scored_for_one_run_is_known_to_the_next(
    project: Project, tmp_path: Path, undisturbed: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    strategies = {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [2], "seeds": [0]}}
    first = run(project(strategies=strategies), tmp_path / "first", "cache=true")
    more = {"zero_shot": {"prompts": ["default", "emotional"]}, "few_shot": {"k": [1, 2], "seeds": [0]}}
    second = run(project(strategies=more), tmp_path / "second", "cache=true")
    assert {cell.cell: cell.rows_cached for cell in first.cells} == {
        "zero_shot/default": 0,
        "few_shot/default/k=2/draw=item/seed=0": 0,
        "qlora/default": 6,  # the last point of the curve
    }
    assert [cell.rows_cached for cell in second.cells] == [6, 0, 0, 6, 6]
    items, expected = (read_items(folder / "items.parquet") for folder in (tmp_path / "second", undisturbed))
    assert items == {name: expected[name] for name in items}


# --- the run has changed


def test_another_config_is_refused_with_the_difference(copy: tuple[Path, Path], undisturbed: Path) -> None:
    with pytest.raises(RunChangedError) as caught:
        run(*copy, "tune.lr=0.02", "strategies.few_shot.k=[1, 2]")
    assert "config.tune.lr: 0.01 -> 0.02" in str(caught.value)
    assert "config.strategies.few_shot.k: [1, 2, 3] -> [1, 2]" in str(caught.value)
    assert {p.name: p.read_bytes() for p in copy[1].glob("*.json")} == {
        p.name: p.read_bytes() for p in undisturbed.glob("*.json")
    }


def test_another_config_goes_elsewhere_or_starts_over(copy: tuple[Path, Path], no_report: None) -> None:
    path, folder = copy
    sets = ("strategies.few_shot=null", "strategies.qlora=null", "strategies.zero_shot.prompts=[emotional]")
    (folder / "notes.txt").write_text("mine")
    assert [cell.cell for cell in run(path, folder.parent / "other", *sets).cells] == ["zero_shot/emotional"]
    assert len(read_run(folder).cells) == 9
    assert [cell.cell for cell in run(path, folder, *sets, fresh=True).cells] == ["zero_shot/emotional"]
    assert [p.name for p in (folder / "cells").iterdir()] == ["zero_shot__emotional.json"]
    assert not (folder / "adapter").exists()
    assert not (folder / "tune").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_fresh_leaves_a_folder_alone_that_is_no_run(project: Project, tmp_path: Path, no_report: None) -> None:
    mine = tmp_path / "mine"
    (mine / "figures").mkdir(parents=True)
    (mine / "figures" / "thesis.png").write_bytes(b"years of work")
    run(project(strategies=ZERO), mine, fresh=True)
    assert (mine / "figures" / "thesis.png").read_bytes() == b"years of work"


def test_fresh_removes_nothing_if_the_input_is_wrong(copy: tuple[Path, Path]) -> None:
    with pytest.raises(DataError):
        run(*copy, "data.test=none.json", fresh=True)
    assert len(list((copy[1] / "cells").iterdir())) == 9


@pytest.mark.parametrize("role", ["train", "test"])
def test_other_content_of_a_data_file_is_refused(role: str, copy: tuple[Path, Path]) -> None:
    path = copy[0].parent / "data" / f"{role}.json"
    path.write_text(path.read_text().replace("翻譯 ", "翻  譯"))
    with pytest.raises(RunChangedError, match=rf"data\.{role}: sha256 \w+… -> sha256"):
        run(*copy)


def test_another_model_or_prompt_is_refused(copy: tuple[Path, Path], fake_folder: Callable[..., Path]) -> None:
    with pytest.raises(RunChangedError, match=r"model\.weights_sha256"):
        run(*copy, f"model.name={fake_folder('llama', seed=1)}")
    with pytest.raises(RunChangedError, match=r"prompts\.default: sha256"):
        run(*copy, "prompts.default=Say {instruction}")


def test_the_same_run_from_elsewhere_under_another_name(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, scored: list[int], numbers: Numbers, undisturbed: Path
) -> None:
    path, folder = copy
    shutil.move(folder.parent / "data", folder.parent / "moved")
    path.rename(path.with_name("renamed.yaml"))
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    run(Path("../../renamed.yaml"), Path(".."), "data.dir=../../moved")
    assert scored == []
    assert numbers(folder) == numbers(undisturbed)


def test_a_run_that_could_not_begin_may_begin_otherwise(project: Project, tmp_path: Path, no_report: None) -> None:
    path = project(strategies=ZERO)
    with pytest.raises(ConfigError, match="CUDA device is asked for and none is available"):
        run(path, tmp_path / "run", "model.device=cuda")
    assert run(path, tmp_path / "run").cells


# --- what the adapter may touch


def test_zero_and_few_shot_do_not_know_whether_there_is_an_adapter(
    project: Project, tmp_path: Path, undisturbed: Path, no_report: None
) -> None:
    run(project(strategies=BASE), tmp_path / "run")
    assert read_items(tmp_path / "run" / "items.parquet") == {
        name: rows for name, rows in read_items(undisturbed / "items.parquet").items() if name != "qlora/default"
    }
    record = read_run(tmp_path / "run")
    assert (record.tune, record.curve) == (None, ())


def test_an_adapter_that_is_off_or_on_at_the_wrong_time_is_noticed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(strategies={**SHORT, "qlora": {}}, tune={"epochs": 1})
    real = scoring.adapter_enabled
    monkeypatch.setattr(scoring, "adapter_enabled", lambda adapter, *, on: real(adapter, on=not on))
    with pytest.raises(TriptychError, match="the adapter is off for cell qlora/default"):
        run(path, tmp_path / "run")


# --- rows


def test_order_of_the_test_rows_changes_no_number(
    project: Project, tmp_path: Path, undisturbed: Path, no_report: None
) -> None:
    path = project(strategies=BASE)
    file = tmp_path / "data" / "test.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(rows[3:] + rows[:3]))
    run(path, tmp_path / "run")
    expected = read_items(undisturbed / "items.parquet")
    for cell, items in read_items(tmp_path / "run" / "items.parquet").items():
        assert [item.id for item in items] == [f"test-{i}" for i in (3, 4, 5, 0, 1, 2)]
        by_id: dict[str, ItemScore] = {item.id: item for item in expected[cell]}
        for item in items:
            assert item.nll_nats == pytest.approx(by_id[item.id].nll_nats, rel=2e-6)
            assert item.demo_ids == by_id[item.id].demo_ids


def test_rows_limits(project: Project, tmp_path: Path, no_report: None) -> None:
    path = project(data={"train_rows": 8, "test_rows": 2, "dev_rows": 3}, tune={"select": "dev", "epochs": 1})
    record = run(path, tmp_path / "run")
    assert {cell.aggregate.n_rows for cell in record.cells} == {2}
    assert record.tune is not None
    assert (record.tune.rows, record.tune.selected_by) == (8, "dev")
    assert {(p.split, p.aggregate.n_rows) for p in record.curve} == {("test", 2), ("dev", 3)}
    files = record.provenance["data"]
    assert [files[role]["n_rows_used"] for role in ("train", "dev", "test")] == [8, 3, 2]


def overlapping(tmp_path: Path) -> None:
    """Two training rows are made test rows: one exactly, one after normalising."""
    folder = tmp_path / "data"
    train, test = (json.loads((folder / f"{name}.json").read_text()) for name in ("train", "test"))
    train[2] |= {"instruction": test[0]["instruction"], "output": test[0]["output"]}
    train[5]["instruction"] = test[1]["instruction"] + "？！"
    (folder / "train.json").write_text(json.dumps(train))


def test_test_rows_in_train_warn_and_are_never_shown(project: Project, tmp_path: Path) -> None:
    path = project(strategies={**BASE, "few_shot": {"k": [12], "seeds": [0, 1, 2], "draw": ["item", "seed"]}})
    overlapping(tmp_path)
    reporter = Reporter()
    record = run(path, tmp_path / "run", reporter=reporter)
    [warning] = [said for said in reporter.said if said.startswith("warning")]
    assert "2 of 6 test rows occur in train (1 exactly, 1 after normalising)" in warning
    assert "test test-0 = train train-2" in warning
    assert any(text in warning for text in record.warnings)
    report = (tmp_path / "run" / "report.md").read_text().replace("\\", "")  # Markdown escapes
    assert record.warnings[0] in report
    shown = {
        demo
        for cell, items in read_items(tmp_path / "run" / "items.parquet").items()
        if cell.startswith("few_shot")
        for item in items
        for demo in item.demo_ids
    }
    assert shown == {f"train-{i}" for i in range(14)} - {"train-2", "train-5"}


def test_test_rows_in_train_are_an_error_if_strict(project: Project, tmp_path: Path) -> None:
    path = project(data={"strict": True})
    overlapping(tmp_path)
    with pytest.raises(DataError, match=r"test rows occur in train[\s\S]*2 of 6"):
        run(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_k_larger_than_the_pool(project: Project, tmp_path: Path) -> None:
    path = project(strategies={**BASE, "few_shot": {"k": [13]}})
    overlapping(tmp_path)
    with pytest.raises(ConfigError, match=r"k = 13, 12 training rows that are not in the test set"):
        run(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_demonstrations_that_do_not_fit_are_counted_and_said(
    project: Project, tmp_path: Path, undisturbed: Path
) -> None:
    items = read_items(undisturbed / "items.parquet")["few_shot/default/k=3/draw=item/seed=0"]
    limit = sorted(item.n_prompt_tokens + item.n_tokens for item in items)[3]  # half of the rows are longer
    path = project(strategies={**BASE, "few_shot": {"k": [1, 3], "seeds": [0]}}, max_tokens=limit)
    record = run(path, tmp_path / "run")
    cells = {cell.cell: cell for cell in record.cells}
    cell = cells["few_shot/default/k=3/draw=item/seed=0"]
    rows = read_items(tmp_path / "run" / "items.parquet")[cell.cell]
    assert 1 <= cell.rows_with_demos_dropped < 6
    assert cell.rows_with_demos_dropped == sum(item.n_demos_dropped > 0 for item in rows)
    assert cell.demos_dropped == sum(item.n_demos_dropped for item in rows)
    for item in rows:
        assert len(item.demo_ids) == item.n_demos == 3 - item.n_demos_dropped
        assert item.n_prompt_tokens + item.n_tokens <= limit
    assert cells["few_shot/default/k=1/draw=item/seed=0"].demos_dropped == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "dropped" in report
    assert record.provenance["max_tokens"] == limit


def test_a_row_that_does_not_fit_at_all_is_named(project: Project, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"longer than 100 tokens[\s\S]*test-0"):
        run(project(strategies=ZERO, max_tokens=100), tmp_path / "run")


def test_training_rows_that_are_too_long_are_left_out_and_counted(
    project: Project, tmp_path: Path, undisturbed: Path, no_report: None
) -> None:
    tune = read_run(undisturbed).tune
    assert tune is not None
    longest = round(tune.tokens / tune.rows / tune.epochs)
    reporter = Reporter()
    path = project(strategies={**SHORT, "qlora": {}}, tune={"max_tokens": longest, "epochs": 1})
    summary = run(path, tmp_path / "run", reporter=reporter).tune
    assert summary is not None
    assert 0 < summary.rows_dropped < 14
    assert summary.rows == 14 - summary.rows_dropped
    assert any(f"{summary.rows_dropped} training rows are longer than {longest}" in said for said in reporter.said)


# --- what can't be used


def test_selecting_on_dev_rows_without_any(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key `tune\.select`[\s\S]*data\.dev_rows"):
        run(project(tune={"select": "dev"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # without training it is no matter
    read_config(project(tune={"select": "dev"}, strategies=ZERO))


def test_a_model_folder_without_tokenizer(project: Project, tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer") as caught:
        run(project(model={"name": str(tmp_path / "bare")}), tmp_path / "run")
    assert str(tmp_path / "bare") in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_model(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a model[\s\S]*config\.json"):
        run(project(model={"name": str(tmp_path / "data")}), tmp_path / "run")


def test_a_full_disk_keeps_the_finished_cells(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: list[int], no_report: None
) -> None:
    path = project(strategies=BASE)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if len(list((tmp_path / "run" / "cells").glob("*.json"))) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskError, match="the disk is full"):
            run(path, tmp_path / "run")
    assert not list(tmp_path.rglob("*.tmp"))
    del scored[:]
    run(path, tmp_path / "run")
    assert len(scored) == 8 - 3


def test_a_place_that_can_not_be_written_to(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="can't be written to"):
        run(project(strategies=ZERO), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
