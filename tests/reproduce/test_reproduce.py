"""A run comes out again bit by bit on the same machine; what moved it otherwise is named, cell by cell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError, ModelError
from triptych.records import ItemScore, RunRecord
from triptych.records.disk import sha256_of_file
from triptych.records.store import read_items, read_json, read_run, write_json
from triptych.reproduce.agreement import agree, tolerance_of, worst
from triptych.reproduce.differences import shortened
from triptych.reproduce.recorded import read_recorded
from triptych.reproduce.reproduce import Reproduction, reproduce
from triptych.runner import live, results
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
SMALL = {"zero_shot": {"prompts": ["own", "default"]}, "few_shot": {"k": [1], "seeds": [0]}, "qlora": None}


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and HTML are most of a tiny run's time."""

    def read(folder: Path, *_: Any, **__: Any) -> RunRecord:
        return read_run(folder)

    monkeypatch.setattr(results, "build_report", read)
    monkeypatch.setattr(live, "build_so_far", lambda *_: None)


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished run of one's own, its data where it was."""
    shutil.copytree(undisturbed, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def small(project: Project, tmp_path: Path) -> Path:
    """A run of three cells, one of them under a prompt from a file."""
    (tmp_path / "own.txt").write_text("譯：{instruction}\n答：", encoding="utf-8")
    path = project(prompts={"own": "own.txt"}, strategies=SMALL)
    run_experiment(read_config(path), tmp_path / "run")
    return tmp_path / "run"


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = read_json(path)
    change(value)
    write_json(path, value)


def statuses(found: Reproduction) -> dict[str, str]:
    return {fact.name: fact.status for fact in found.facts}


def verdicts(found: Reproduction) -> dict[str, str]:
    return {cell.cell: cell.verdict for cell in found.cells}


def causes(found: Reproduction, cell: str) -> Sequence[str]:
    return next(one.causes for one in found.cells if one.cell == cell)


# --- the same


def test_the_same_machine_gives_every_number_again(undisturbed: Path, tmp_path: Path) -> None:
    found = reproduce(undisturbed, out=tmp_path / "again")
    assert found.verdict == "exact"
    assert set(verdicts(found).values()) == {"exact"}
    assert len(found.cells) == 9
    assert {cell.max_nll_per_token for cell in found.cells} == {0.0}
    (training,) = found.trainings
    assert (training.same_adapter, training.max_ppl_curve) == (True, 0.0)
    assert {fact.name for fact in found.facts if fact.status == "changed"} == set()
    assert {"torch", "transformers", "test file", "train rows used", "prompt `emotional`", "model weights"} <= set(
        statuses(found)
    )
    # computed, not copied or looked up
    assert all(cell.rows_cached == 0 for cell in read_run(tmp_path / "again").cells)
    held = [read_json(folder / "run.lock.json")["chosen"] for folder in (undisturbed, tmp_path / "again")]
    assert held[0] == held[1]
    assert read_json(tmp_path / "again" / "reproduction.json")["verdict"] == "exact"


def test_what_cells_share_is_looked_up_again_and_nothing_else(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that two cells share is computed with the first: beside other rows it would be rounded otherwise."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    few = {"k": [1], "seeds": [0, 1, 2]}
    path = project(cache=True, strategies={"zero_shot": None, "few_shot": few, "qlora": None})
    then = run_experiment(read_config(path), tmp_path / "run")
    looked_up = [cell.rows_cached for cell in then.cells]
    assert looked_up[0] == 0 < sum(looked_up)
    found = reproduce(tmp_path / "run", out=tmp_path / "again")
    assert found.verdict == "exact"
    assert [cell.rows_cached for cell in read_run(tmp_path / "again").cells] == looked_up
    # all is known now, and a run says so
    again = run_experiment(read_config(path), tmp_path / "known")
    assert [cell.rows_cached for cell in again.cells] == [6, 6, 6]
    alone = then.cells[looked_up.index(max(looked_up))]
    one = reproduce(tmp_path / "run", out=tmp_path / "one", cells=[alone.cell])
    assert one.verdict in ("exact", "within tolerance")
    if one.verdict != "exact":
        assert "rows were looked up then, 0 now" in causes(one, alone.cell)[0]


def test_only_the_cells_asked_for(undisturbed: Path, tmp_path: Path) -> None:
    names = ["zero_shot/emotional", "few_shot/default/k=2/draw=item/seed=1"]
    found = reproduce(undisturbed, out=tmp_path / "again", cells=names)
    assert verdicts(found) == dict.fromkeys(names, "exact")
    assert (found.verdict, found.trainings) == ("exact", ())
    assert not (tmp_path / "again" / "adapter").exists()


def test_an_adapters_cell_brings_its_training(undisturbed: Path, tmp_path: Path) -> None:
    found = reproduce(undisturbed, out=tmp_path / "again", cells=["qlora/default"])
    assert (verdicts(found), len(found.trainings)) == ({"qlora/default": "exact"}, 1)


def test_only_check_computes_nothing(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(undisturbed.parent.iterdir())
    found = reproduce(undisturbed, only_check=True)
    assert (found.verdict, found.cells, found.out) == (None, (), None)
    assert set(statuses(found).values()) <= {"same", "unknown"}
    assert sorted(undisturbed.parent.iterdir()) == before


# --- what changed


def test_a_changed_prompt_moves_its_cells_and_is_named(small: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("請譯：{instruction}\n答：", encoding="utf-8")
    found = reproduce(small)
    assert found.out == str(tmp_path / "run-reproduced")
    assert statuses(found)["prompt `own`"] == "changed"
    assert statuses(found)["prompt `default`"] == "same"
    assert verdicts(found) == {
        "zero_shot/own": "different",
        "zero_shot/default": "exact",
        "few_shot/default/k=1/draw=item/seed=0": "exact",
    }
    was = read_run(small).prompts["own"]["sha256"]
    assert causes(found, "zero_shot/own")[0].startswith(f"prompt `own` {was[:12]}… -> ")
    assert found.verdict == "different"


def test_a_prompt_whose_file_is_gone_comes_from_the_records(small: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").unlink()
    found = reproduce(small)
    assert found.verdict == "exact"
    assert any("own.txt is gone" in note for note in found.notes)


def test_a_changed_version_is_named_where_numbers_moved(copy: Path, tmp_path: Path) -> None:
    def older(value: Any) -> None:
        value["provenance"]["packages"]["torch"] = "1.9.0"

    edit(copy / "results.json", older)
    found = reproduce(copy, out=tmp_path / "again", cells=["zero_shot/default"])
    assert statuses(found)["torch"] == "changed"
    assert found.verdict == "exact"  # another version is no reason to say that numbers moved

    record, items = read_run(copy), read_items(copy / "items.parquet")
    name = "zero_shot/default"
    moved = {name: [ItemScore(i.id, i.nll_nats * 1.1, i.n_tokens, i.n_chars, i.n_prompt_tokens) for i in items[name]]}
    cells, _ = agree(record, read_run(tmp_path / "again"), items, moved, found.facts, "float32")
    assert cells[0].verdict == "different"
    assert [cause for cause in cells[0].causes if cause.startswith("torch 1.9.0 -> ")]


def test_changed_test_rows_move_every_cell_and_are_named(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "test.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[2]["output"] += "也"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    found = reproduce(small)
    assert statuses(found)["test file"] == "changed"
    assert set(verdicts(found).values()) == {"different"}
    assert {cell.row for cell in found.cells} == {"test-2"}
    assert "other test rows, or other tokens in their outputs" in causes(found, "zero_shot/own")
    assert any(cause.startswith("test file ") for cause in causes(found, "zero_shot/own"))


def test_changed_training_rows_move_only_cells_that_show_them(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "train.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(rows[::-1], ensure_ascii=False), encoding="utf-8")
    found = reproduce(small)
    name = "few_shot/default/k=1/draw=item/seed=0"
    assert verdicts(found) == {"zero_shot/own": "exact", "zero_shot/default": "exact", name: "different"}
    assert any(cause.startswith("other demonstrations in ") for cause in causes(found, name))
    assert any(cause.startswith("train file ") for cause in causes(found, name))


def test_another_model_is_named(small: Path, tmp_path: Path, fake_folder: Callable[..., Path]) -> None:
    found = reproduce(small, model=str(fake_folder("llama", seed=1)))
    assert statuses(found)["model weights"] == "changed"
    assert statuses(found)["tokenizer"] == "same"
    assert found.verdict == "different"
    assert any(cause.startswith("model weights ") for cause in causes(found, "zero_shot/default"))


def test_edited_settings_are_named(copy: Path) -> None:
    def other(value: Any) -> None:
        value["provenance"]["config"]["tune"]["lr"] = 0.02

    edit(copy / "results.json", other)
    facts = {fact.name: fact for fact in reproduce(copy, only_check=True).facts}
    assert facts["tune.lr"].sentence() == "tune.lr 0.01 -> 0.02"


def test_a_commit_with_changes_is_not_called_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.records import provenance

    commit = "0123456789abcdef0123456789abcdef01234567+changes"
    monkeypatch.setattr(provenance, "_git", lambda: commit)
    edit(copy / "results.json", lambda value: value["provenance"].update(git=commit))
    assert statuses(reproduce(copy, only_check=True))["git commit"] == "unknown"
    assert shortened(commit) == "0123456789ab…+changes"
    edit(copy / "results.json", lambda value: value["provenance"].update(git="f" * 40))
    assert statuses(reproduce(copy, only_check=True))["git commit"] == "changed"


# --- what is missing


def test_missing_data_is_named_by_hash_and_found_where_it_is(small: Path, tmp_path: Path) -> None:
    wanted = sha256_of_file(tmp_path / "data" / "test.json")
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DataError) as error:
        reproduce(small)
    assert f"SHA-256 {sha256_of_file(tmp_path / 'moved' / 'train.json')}, 14 rows" in str(error.value)
    assert "--data" in str(error.value)
    assert not (tmp_path / "run-reproduced").exists()
    assert reproduce(small, data=tmp_path / "moved", only_check=True).verdict is None

    # under another name it is told by its content
    (tmp_path / "moved" / "test.json").rename(tmp_path / "moved" / "public.json")
    found = reproduce(small, data=tmp_path / "moved", only_check=True)
    assert statuses(found)["test file"] == "same"
    (tmp_path / "moved" / "public.json").unlink()
    with pytest.raises(DataError, match=wanted):
        reproduce(small, data=tmp_path / "moved")


def test_relative_paths_are_found_from_the_runs_folder_upwards(
    project: Project, fake_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = project(strategies=SMALL | {"zero_shot": {"prompts": ["default"]}})
    shutil.copytree(fake_folder("llama"), "cfg/model")
    config = yaml.safe_load(settings.read_text(encoding="utf-8"))
    config["model"]["name"] = "cfg/model"
    settings.write_text(yaml.safe_dump(config), encoding="utf-8")
    run_experiment(read_config(Path("experiment.yaml")), Path("runs/one"))
    monkeypatch.chdir("/")
    found = reproduce(tmp_path / "runs" / "one", only_check=True)
    assert {statuses(found)[name] for name in ("test file", "train file", "model weights")} == {"same"}


def test_a_missing_model_is_named_by_hash(copy: Path, tmp_path: Path) -> None:
    def gone(value: Any) -> None:
        value["provenance"]["config"]["model"]["name"] = str(tmp_path / "gone")

    edit(copy / "results.json", gone)
    wanted = read_json(copy / "run.lock.json")["model"]["weights_sha256"]
    with pytest.raises(ModelError, match=wanted) as error:
        reproduce(copy)
    assert "--model" in str(error.value)


def test_a_folder_without_a_finished_run_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this folder holds no run"):
        reproduce(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        reproduce(tmp_path / "nothing")
    (copy / "results.json").unlink()
    with pytest.raises(DataError, match="this run is not finished"):
        reproduce(copy)


def test_records_that_say_too_little_are_refused(copy: Path) -> None:
    edit(copy / "results.json", lambda value: value["provenance"].pop("config"))
    with pytest.raises(DataError, match=r"provenance\.config"):
        read_recorded(copy)


def test_an_unknown_cell_is_refused_with_the_nearest(undisturbed: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `zero_shot/default`"):
        reproduce(undisturbed, cells=["zero_shot/defualt"])


# --- where it is computed


def test_other_folders_are_left_alone(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the run itself"):
        reproduce(small, out=small)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    with pytest.raises(ConfigError, match="other files"):
        reproduce(small, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"


def test_a_finished_reproduction_is_no_answer_for_today(small: Path, tmp_path: Path) -> None:
    assert reproduce(small).verdict == "exact"
    (tmp_path / "own.txt").write_text("別譯：{instruction}", encoding="utf-8")
    assert verdicts(reproduce(small))["zero_shot/own"] == "different"


def test_one_that_was_cut_short_goes_on(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(results, "write_items", cut)
        reproduce(small)
    cells = sorted((tmp_path / "run-reproduced" / "cells").iterdir())
    times = [path.stat().st_mtime_ns for path in cells]
    assert len(cells) == 3
    assert reproduce(small).verdict == "exact"
    assert [path.stat().st_mtime_ns for path in cells] == times


# --- tolerances


def test_rounding_is_within_tolerance_and_more_is_not(undisturbed: Path) -> None:
    record, items = read_run(undisturbed), read_items(undisturbed / "items.parquet")
    name = "zero_shot/default"

    def shifted(nats: float) -> Any:
        moved = [
            ItemScore(i.id, i.nll_nats + nats * i.n_tokens, i.n_tokens, i.n_chars, i.n_prompt_tokens)
            for i in items[name]
        ]
        return agree(record, record, items, {**items, name: moved}, (), "float32")[0][0]

    assert shifted(0).verdict == "exact"
    assert shifted(1e-6).verdict == "within tolerance"
    assert shifted(1e-6).max_nll_per_token == pytest.approx(1e-6, rel=1e-3)
    assert shifted(1e-3).verdict == "different"
    assert shifted(1e-3).causes == ("nothing that was recorded differs: the computation doesn't repeat itself here",)


def test_bounds_widen_with_the_dtype_and_a_new_training() -> None:
    for dtype in ("float32", "bfloat16"):
        assert tolerance_of(dtype, trained_again=True) > tolerance_of(dtype)
    assert tolerance_of("bfloat16") > tolerance_of("float32")
    assert worst(["exact", "different", "within tolerance"]) == "different"
    assert worst([]) == "exact"
