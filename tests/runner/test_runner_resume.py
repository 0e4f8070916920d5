"""A run is resumed only from what it was made from; another model, config.json, adapter or process is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.torch import load_file, save_file

from triptych.config.model import ModelConfig
from triptych.config.read import read_config
from triptych.errors import InputError, ModelError, RunChangedError
from triptych.models import header, load
from triptych.records import RunRecord
from triptych.records.store import read_json, read_run, write_json
from triptych.runner import results, session
from triptych.runner.run import run_experiment

CELLS = {"zero_shot": {"prompts": ["default"]}, "few_shot": None, "qlora": {"prompt": "default"}}
SHORT = {"cache": True, "strategies": CELLS, "tune": {"epochs": 1, "eval_every": 4}}


class Here(NamedTuple):
    """A finished run of two cells, with a model of its own: all may be changed."""

    yaml: Path
    run: Path
    model: Path

    def again(self, *sets: str, out: Path | None = None, said: list[str] | None = None) -> RunRecord:
        return run_experiment(read_config(self.yaml, sets), out or self.run, reporter=Said(said))

    def cell(self, name: str) -> Path:
        return self.run / "cells" / f"{name}.json"


class Said:
    def __init__(self, said: list[str] | None) -> None:
        self.said = [] if said is None else said

    def task(self, *_: Any, **__: Any) -> Any:
        return nullcontext(lambda _: None)

    def info(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(autouse=True)
def quiet(no_report: None) -> None:
    """Figures and HTML are most of a tiny run's time."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, write_experiment: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("done")
    shutil.copytree(model_folder, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "build_report", read_run)
        patch.setenv("TRIPTYCH_CACHE", str(folder / "cache"))
        run_experiment(read_config(write_experiment(folder, folder / "model", **SHORT)), folder / "run")
    return folder


@pytest.fixture
def here(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_experiment: Callable[..., Path]) -> Here:
    folder = tmp_path / "here"
    shutil.copytree(done, folder)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(folder / "cache"))
    return Here(write_experiment(folder, folder / "model", **SHORT), folder / "run", folder / "model")


def means(record: RunRecord) -> dict[str, float]:
    return {cell.cell: cell.aggregate.ppl_mean for cell in record.cells}


# --- the model


def test_another_config_json_is_refused_and_scored_anew_elsewhere(here: Here, tmp_path: Path) -> None:
    before = means(read_run(here.run))
    edit(here.model / "config.json", lambda config: config.update(rms_norm_eps=0.5))
    with pytest.raises(RunChangedError, match=r"model\.config_sha256: sha256 \w+… -> sha256"):
        here.again()
    elsewhere, computed = here.again(out=tmp_path / "b"), here.again("cache=false", out=tmp_path / "c")
    assert means(elsewhere) == means(computed)
    assert all(means(elsewhere)[name] != ppl for name, ppl in before.items())


def test_who_wrote_config_json_decides_nothing(here: Here) -> None:
    def rewritten(config: Any) -> None:
        config.update(transformers_version="0.0.1", _name_or_path="elsewhere", dtype="float16")

    edit(here.model / "config.json", rewritten)
    assert means(here.again()) == means(read_run(here.run))


def test_weights_replaced_in_place_with_size_and_time_kept_are_seen(here: Here) -> None:
    here.again()  # the file's hash is known now
    file = here.model / "model.safetensors"
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-3000:-2000] = content[-2000:-1000]
    with file.open("r+b") as open_file:
        open_file.write(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    with pytest.raises(RunChangedError, match=r"model\.weights_sha256"):
        here.again()


def test_a_model_that_changes_before_it_is_loaded(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session.load_model

    def changed(spec: Any) -> Any:
        edit(here.model / "config.json", lambda config: config.update(rms_norm_eps=0.5))
        return real(spec)

    monkeypatch.setattr(session, "load_model", changed)
    here.cell("zero_shot__default").unlink()
    with pytest.raises(ModelError, match=r"changed after this command had identified[\s\S]*found: config_sha256"):
        here.again()
    assert not here.cell("zero_shot__default").exists()


def test_a_model_that_changes_while_it_is_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real = header.load_tokenizer

    def changed(*arguments: Any, **options: Any) -> Any:
        (here.model / "config.json").write_bytes((here.model / "config.json").read_bytes())
        return real(*arguments, **options)

    monkeypatch.setattr(header, "load_tokenizer", changed)
    with pytest.raises(ModelError, match=r"changed while they were read[\s\S]*found: config\.json"):
        load.load_model(ModelConfig(name=str(here.model), quantize="none", dtype="float32", threads=1))


def test_a_config_of_names_that_transformers_does_not_know(here: Here) -> None:
    edit(here.model / "config.json", lambda config: config.update(hidden_act="no_such_activation"))
    with pytest.raises(ModelError, match=r"doesn't know[\s\S]*KeyError: 'no_such_activation'"):
        here.again(out=here.run.parent / "other")


# --- the folder


@pytest.mark.parametrize("left", ["cells", "adapter", "tune"])
def test_work_without_a_lock_is_refused(here: Here, left: str) -> None:
    (here.run / "run.lock.json").unlink()
    for path in here.run.iterdir():
        if path.name not in (left, "manifest.json"):  # which says whose what is left is
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RunChangedError, match=rf"lock is missing[\s\S]*{left}[\s\S]*--fresh"):
        here.again()
    assert not (here.run / "run.lock.json").exists()
    assert len(run_experiment(read_config(here.yaml), here.run, fresh=True).cells) == 2  # what the message says helps


def test_a_cell_of_another_model_is_refused(here: Here, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    other = fake_folder("llama", seed=7)
    here.again(f"model.name={other}", "strategies.qlora=null", out=tmp_path / "other")
    shutil.copy(tmp_path / "other" / "cells" / "zero_shot__default.json", here.cell("zero_shot__default"))
    with pytest.raises(RunChangedError, match=r"this finished cell[\s\S]*model\.weights_sha256: sha256"):
        here.again()
    here.cell("zero_shot__default").unlink()
    assert len(here.again().cells) == 2


def test_a_cell_scored_with_another_adapter_is_refused(here: Here) -> None:
    def relabelled(cell: Any) -> None:
        cell["record"]["adapter_sha256"] = "0" * 64

    edit(here.cell("qlora__default"), relabelled)
    with pytest.raises(RunChangedError, match=r"another adapter than its training's[\s\S]*qlora__default"):
        here.again()


def test_a_training_of_another_model_is_refused(here: Here, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    here.again(f"model.name={fake_folder('llama', seed=7)}", out=tmp_path / "other")
    for name in ("tune", "adapter"):
        shutil.rmtree(here.run / name)
        shutil.copytree(tmp_path / "other" / name, here.run / name)
    with pytest.raises(RunChangedError, match=r"this training was made from something else[\s\S]*summary\.json"):
        here.again()
    (here.run / "tune" / "summary.json").unlink()
    with pytest.raises(RunChangedError, match=r"this checkpoint was made from something else[\s\S]*weights_sha256"):
        here.again()


def test_a_run_of_an_earlier_version_is_named_and_left_alone(here: Here) -> None:
    edit(here.run / "run.lock.json", lambda lock: lock["model"].pop("config_sha256"))
    before = {path: path.read_bytes() for path in here.run.rglob("*") if path.is_file()}
    with pytest.raises(
        RunChangedError, match=r"earlier version of Triptych[\s\S]*--fresh[\s\S]*the version that began"
    ):
        here.again()
    assert {path: path.read_bytes() for path in here.run.rglob("*") if path.is_file()} == before


def test_results_of_an_earlier_version_are_read(here: Here) -> None:
    def older(run: Any) -> None:
        for record in [*run["cells"], run["tune"], *run["trainings"]]:
            del record["identity"], record["versions"]

    edit(here.run / "results.json", older)
    assert [cell.identity for cell in read_run(here.run).cells] == [None, None]


def test_every_record_says_what_it_was_made_from(here: Here) -> None:
    run, cell = read_run(here.run), read_json(here.cell("qlora__default"))
    assert run.tune is not None
    assert cell["record"]["identity"] == run.cells[1].identity != run.cells[0].identity
    assert cell["made_from"]["training"] == run.tune.identity
    assert set(cell["made_from"]["model"]) >= {"weights_sha256", "config_sha256", "tokenizer_sha256", "dtype"}
    files = ["adapter/triptych.json", "tune/summary.json", "tune/curve.json"]
    states = sorted((here.run / "tune" / "checkpoints").glob("*/state.json"))
    assert states
    for path in [*(here.run / name for name in files), *states]:
        assert read_json(path)["identity"] == run.tune.identity, path


def test_texts_and_searches_are_of_the_model_they_were_made_with(here: Here, tmp_path: Path) -> None:
    out = tmp_path / "searched"
    sets = (
        "strategies={search: {prompts: [default, emotional], k: [0], start_rows: 2}}",
        "data.dev_rows=4",
        "generate={rows: 2, max_new_tokens: 3}",
    )
    record = here.again(*sets, out=out)
    texts = next((out / "predictions").glob("*.record.json"))
    assert read_json(texts)["facts"]["identity"] == record.cells[0].identity
    edit(out / "search.json", lambda search: search.update(identity="0" * 64))
    with pytest.raises(RunChangedError, match=r"this search was made from something else"):
        here.again(*sets, out=out)


# --- the adapter


@pytest.mark.parametrize("harm", ["weights", "empty", "scale"])
def test_an_altered_adapter_is_refused_and_made_again_from_its_checkpoint(here: Here, harm: str) -> None:
    before, weights = read_run(here.run), here.run / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    if harm == "weights":
        save_file({name: tensor * 3 + 0.1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    elif harm == "empty":
        weights.write_bytes(b"")
    else:
        edit(here.run / "adapter" / "adapter_config.json", lambda config: config.update(lora_alpha=99))
    with pytest.raises(ModelError, match=r"adapter was changed after it was saved[\s\S]*delete \S+adapter"):
        here.again()
    shutil.rmtree(here.run / "adapter")  # as the message says
    times = {path: path.stat().st_mtime_ns for path in (here.run / "cells").iterdir()}
    after = here.again()
    assert weights.read_bytes() == whole
    assert after.cells == before.cells
    assert {path: path.stat().st_mtime_ns for path in times} == times


# --- versions


def test_a_resume_under_other_versions_says_so(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.records import provenance

    real = provenance._version
    monkeypatch.setattr(provenance, "_version", lambda name: "99.1" if name == "torch" else real(name))
    here.cell("qlora__default").unlink()
    said: list[str] = []
    record = here.again(said=said)
    lines = [line for line in said if "other versions" in line]
    assert len(lines) == 1
    assert "2 of 2 finished cells and trainings" in lines[0]
    assert "-> 99.1" in lines[0]
    assert [cell.versions.torch == "99.1" for cell in record.cells if cell.versions] == [False, True]
    assert record.warnings[0].startswith("Not all numbers here were computed with the same versions: torch ")
    assert json.loads((here.run / "results.json").read_text())["warnings"][0] == record.warnings[0]


def test_a_training_that_two_versions_worked_on_names_both(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("adapter", "tune/adapter"):
        shutil.rmtree(here.run / name)
    (here.run / "tune" / "summary.json").unlink()
    newest = sorted((here.run / "tune" / "checkpoints").iterdir())[-1]
    shutil.copytree(newest, newest.with_name("step-000001"))
    shutil.rmtree(newest)

    def sooner(state: Any) -> None:
        state["state"]["step"] = 1
        state["versions"]["torch"] = "1.0"

    edit(newest.with_name("step-000001") / "state.json", sooner)
    here.cell("qlora__default").unlink()
    said: list[str] = []
    summary = here.again(said=said).tune
    assert summary is not None
    assert summary.versions is not None
    assert str(summary.versions.torch).startswith("1.0, ")
    assert any("this training was begun with other versions: torch 1.0 -> " in line for line in said)


# --- two processes


@pytest.fixture
def holder(here: Here) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the run's folder."""
    program = (
        "import sys, time; from pathlib import Path; from triptych.records.process_lock import ProcessLock\n"
        "lock = ProcessLock(Path(sys.argv[1])); lock.acquire(); print('has it', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(here.run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_a_dead_one_is_no_hindrance(here: Here, holder: subprocess.Popen[str]) -> None:
    (here.run / "results.json").unlink()
    lock = (here.run / "run.lock.json").read_bytes()
    with pytest.raises(InputError, match=rf"another process is working[\s\S]*process {holder.pid} on ") as caught:
        here.again("tune.lr=0.02")
    assert caught.value.exit_code == 2
    assert (here.run / "run.lock.json").read_bytes() == lock
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert len(here.again().cells) == 2
    assert not (here.run / ".triptych.lock").exists()


def test_a_run_that_fails_leaves_no_lock_behind(here: Here) -> None:
    with pytest.raises(RunChangedError):
        here.again("tune.lr=0.02")
    assert not (here.run / ".triptych.lock").exists()
    write_json(here.run / "run.lock.json", {})  # torn by hand: refused too, and still not locked
    with pytest.raises(RunChangedError):
        here.again()
    assert not (here.run / ".triptych.lock").exists()
