"""What the command line does, from Python: the same numbers, as DataFrames, with a rich display."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import triptych
from triptych.config.read import read_config
from triptych.errors import ConfigError, DataError, InputError
from triptych.progress import Silent
from triptych.records.store import read_items, read_run

PIECES = ["春眠", "不覺曉", "處處", "聞啼鳥", "夜來", "風雨", "花落", "知多少"]
PLAINLY: dict[str, Any] = {"quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1}


def rows(name: str, n: int) -> list[dict[str, str]]:
    return [
        {
            "id": f"{name}-{i}",
            "instruction": f"翻譯 {name} {i}：{PIECES[i % 8]}",
            "output": PIECES[(3 * i) % 8] + PIECES[i % 5],
        }
        for i in range(n)
    ]


def settings(model: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"name": str(model), **PLAINLY},
        "data": {"train": "train.json", "test": "test.json"},
        "strategies": {"zero_shot": {}, "few_shot": {"k": [1, 2], "seeds": [0, 1]}, "qlora": {}},
        "tune": {"r": 2, "epochs": 1, "batch_size": 4, "eval_every": 2, "lr": 0.01},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fake_folder: Callable[..., Path]) -> Path:
    """Data and a YAML; don't change them."""
    made = tmp_path_factory.mktemp("api")
    for name, n in (("train", 12), ("test", 5)):
        (made / f"{name}.json").write_text(json.dumps(rows(name, n), ensure_ascii=False), encoding="utf-8")
    (made / "experiment.yaml").write_text(yaml.safe_dump(settings(fake_folder("llama"))), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def ran(folder: Path) -> triptych.Run:
    return triptych.run(folder / "experiment.yaml", out=folder / "runs" / "tiny", reporter=Silent())


def test_a_run_gives_its_records_as_frames(ran: triptych.Run) -> None:
    record = read_run(ran.path)
    assert list(ran.cells["cell"]) == [cell.cell for cell in record.cells]
    assert list(ran.cells["ppl_mean"]) == [cell.aggregate.ppl_mean for cell in record.cells]
    assert "aggregate" not in ran.cells
    items = read_items(ran.path / "items.parquet")
    assert len(ran.items) == 5 * len(record.cells) == sum(map(len, items.values()))
    means = ran.items.groupby("cell", sort=False)["ppl"].mean()
    assert list(means) == pytest.approx(list(ran.cells["ppl_mean"]))
    assert set(ran.items["strategy"]) == {"zero_shot", "few_shot", "qlora"}
    assert list(ran.items.query("strategy == 'few_shot' and k == 2 and seed == 1")["n_demos"]) == [2] * 5
    assert list(ran.curve["step"]) == [point.step for point in record.curve]
    assert ran.curve["ppl_mean"].iloc[-1] == record.curve[-1].aggregate.ppl_mean
    assert list(ran.comparisons["difference"]) == [one.difference for one in record.comparisons]
    assert list(ran.few_shot["k"]) == [1, 2]
    assert ran.few_shot["ppl_mean"].iloc[0] == record.few_shot[0].ppl_mean.mean
    assert ran.few_shot["ppl_mean_std"].iloc[0] == record.few_shot[0].ppl_mean.std


def test_a_run_is_loaded_again(ran: triptych.Run) -> None:
    again = triptych.load_run(str(ran.path))
    pd.testing.assert_frame_equal(again.cells, ran.cells)
    pd.testing.assert_frame_equal(again.items, ran.items)
    assert again.report() == ran.path / "report.html"
    assert again.report().is_file()
    assert again.adapter == ran.path / "adapter"
    with pytest.raises(DataError, match="a record is missing"):
        triptych.load_run(ran.path / "nowhere")


def test_a_report_that_is_gone_is_built_again(ran: triptych.Run) -> None:
    (ran.path / "report.html").unlink()
    assert ran.report().is_file()


def test_a_notebook_shows_answer_and_table(ran: triptych.Run) -> None:
    shown = ran._repr_html_()
    assert "<table>" in shown
    assert "QLoRA" in shown
    first = ran.answer[0]
    assert f"<b>{html.escape(first)}</b>" in shown
    assert repr(ran).startswith("<Run tiny: 7 cells in ")
    assert first in repr(ran)


def test_names_from_a_config_are_no_markup(ran: triptych.Run) -> None:
    evil = ran.record.model_copy(update={"name": "<script>alert(1)</script>"})
    assert "<script" not in triptych.Run(ran.path, evil)._repr_html_()


def test_settings_come_as_file_mapping_or_config_with_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fake_folder: Callable[..., Path]
) -> None:
    from triptych.api.given import config_of

    monkeypatch.chdir(folder)
    changes = {"tune__lr": 1e-5, "tune": {"epochs": 3}, "strategies": {"few_shot": None}, "name": "other"}
    from_file = config_of("experiment.yaml", changes)
    given = settings(fake_folder("llama"))
    assert from_file == config_of(given, changes)
    assert from_file == config_of(read_config(Path("experiment.yaml")), changes)
    assert (from_file.tune.lr, from_file.tune.epochs, from_file.tune.r) == (1e-5, 3, 2)
    assert from_file.strategies.few_shot is None
    assert from_file.name == "other"
    assert given == settings(fake_folder("llama"))  # what was given is as it was
    read = read_config(Path("experiment.yaml"))
    assert config_of(read, {}) is read


@pytest.mark.parametrize("given", ["file", "mapping"])
def test_a_change_that_means_nothing_is_an_error_with_the_way_out(
    given: str, folder: Path, fake_folder: Callable[..., Path]
) -> None:
    config: Any = folder / "experiment.yaml" if given == "file" else settings(fake_folder("llama"))
    with pytest.raises(ConfigError, match="did you mean `epochs`"):
        triptych.run(config, tune={"epocs": 1}, out=folder / "never")
    assert not (folder / "never").exists()


def test_scores_of_a_file_a_list_and_a_frame_are_the_same(
    folder: Path, ran: triptych.Run, fake_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, test, train = fake_folder("llama"), rows("test", 5), rows("train", 12)
    few: dict[str, Any] = {"shots": 2, "seed": 1, **PLAINLY, "cache": False}
    scored = triptych.score(model, folder / "test.json", pool=folder / "train.json", **few)
    (cell,) = ran.cells.query("strategy == 'few_shot' and k == 2 and seed == 1").itertuples()
    assert scored.aggregate.ppl_mean == pytest.approx(cell.ppl_mean, rel=1e-5)
    assert list(scored.items["id"]) == [row["id"] for row in test]
    assert scored.items["ppl"].mean() == pytest.approx(scored.aggregate.ppl_mean)
    of_list = triptych.score(model=model, data=test, pool=train, **few)
    of_frame = triptych.score(model=model, data=pd.DataFrame(test), pool=pd.DataFrame(train), **few)
    pd.testing.assert_frame_equal(of_list.items, scored.items)
    pd.testing.assert_frame_equal(of_frame.items, scored.items)
    assert f"ppl_mean {scored.aggregate.ppl_mean:.4f}" in repr(scored)
    assert "<table>" in scored._repr_html_()
    out = folder / "scores.json"
    kept = triptych.score(model, test, prompt="emotional", out=out, **PLAINLY)
    assert json.loads(out.read_text())["aggregate"]["ppl_mean"] == kept.aggregate.ppl_mean
    assert kept.provenance["prompt"]["name"] == "emotional"
    capsys.readouterr()


def test_scores_are_computed_in_memory(
    folder: Path, fake_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is written or read back, and what is recorded names none that never was."""
    import hashlib
    import tempfile

    monkeypatch.setattr(tempfile, "mkdtemp", lambda *_, **__: pytest.fail("a temporary folder was made"))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    test, train = rows("test", 3), rows("train", 6)
    given: dict[str, Any] = {**PLAINLY, "cache": False, "reporter": Silent()}
    scored = triptych.score(fake_folder("llama"), test, pool=train, shots=1, **given)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in test)
    assert scored.provenance["data"]["data"] == {"path": None, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert scored.provenance["data"]["pool"]["path"] is None
    of_file = triptych.score(fake_folder("llama"), folder / "test.json", limit=3, **given)
    assert of_file.provenance["data"]["data"]["path"] == str(folder / "test.json")
    assert json.loads(json.dumps(scored.lines)) == scored.lines
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("call", "given", "named"),
    [
        ("score", {"shots": 2}, ["where: `shots`", "found: `shots` 2 without `pool`", "training data with `pool`"]),
        ("score", {"prompt": "emotinal"}, ["where: `prompt`", "with `template`"]),
        ("score", {"limit": 0}, ["where: `limit`"]),
        ("score", {"out": "theirs.json"}, ["another name with `out`, or `force=True` to replace it"]),
        ("score", {"max_tokens": 40}, ["raise `max_tokens`"]),
        ("score", {"select": "mmr", "shots": 1, "pool": rows("train", 3), "mmr_lambda": 2}, ["where: `mmr_lambda`"]),
        ("predict", {"max_new_tokens": 5000}, ["lower `max_new_tokens`, or raise `max_tokens`"]),
        ("predict", {"top_p": 0.5}, ["where: `top_p`"]),
        ("predict", {"out": "written.json", "max_new_tokens": 3}, ["with `out`, or start over with `fresh=True`"]),
        ("predict", {"data": [{"question": 1, "b": 2}]}, ["the rows given as `data`"]),
        ("tune", {"lr": -1}, ["the settings given to triptych.tune"]),
        ("run", {"tune__epocs": 1}, ["where: tune__epocs=1"]),
    ],
)
def test_errors_name_parameters_and_not_options(
    call: str,
    given: dict[str, Any],
    named: list[str],
    folder: Path,
    fake_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.json").write_text('{"mine": 1}')
    model, test = fake_folder("llama"), folder / "test.json"
    if given.get("out") == "written.json":
        triptych.predict(model, test, out="written.json", max_new_tokens=2, reporter=Silent(), **PLAINLY)
    required: dict[str, Any] = (
        {"config": folder / "experiment.yaml"} if call == "run" else {"model": model, "data": test}
    )
    required |= {"test": test} if call == "tune" else {}
    plainly = {} if call == "run" else PLAINLY
    with pytest.raises(InputError) as caught:
        getattr(triptych, call)(**{**required, **plainly, "reporter": Silent(), **given})
    for part in named:
        assert part in str(caught.value)
    assert "--" not in str(caught.value)


def test_an_adapter_is_trained_and_put_on(folder: Path, fake_folder: Callable[..., Path]) -> None:
    model, test = fake_folder("llama"), folder / "test.json"
    hyper = {"r": 2, "epochs": 1, "batch_size": 4, "eval_every": 3, "lr": 0.01}
    tuned = triptych.tune(
        model, folder / "train.json", test, out=folder / "tuned", reporter=Silent(), **PLAINLY, **hyper
    )
    assert list(tuned.curve["step"]) == [0, 3]
    assert tuned.adapter is not None
    after = triptych.score(model, test, adapter=tuned.adapter, reporter=Silent(), **PLAINLY)
    assert after.aggregate.ppl_mean == pytest.approx(tuned.cells["ppl_mean"].iloc[0], rel=1e-5)
    assert after.aggregate.ppl_mean != pytest.approx(tuned.curve["ppl_mean"].iloc[0], rel=1e-5)


def test_texts_are_written(folder: Path, fake_folder: Callable[..., Path]) -> None:
    written = triptych.predict(fake_folder("llama"), rows("test", 3), max_new_tokens=4, reporter=Silent(), **PLAINLY)
    assert list(written.items["id"]) == ["test-0", "test-1", "test-2"]
    assert (written.items["n_tokens"] <= 4).all()
    assert set(written.items["stopped_by"]) <= {"eos", "length", "stop_text"}
    assert written.chrf is not None
    assert 0 <= written.chrf <= 100
    assert "chrF++" in repr(written)
    assert "<table" in written._repr_html_()
    assert set(written.findings.columns) == {"finding", "wrong", "rows"}
    again = triptych.predict(
        fake_folder("llama"), rows("test", 3), max_new_tokens=4, batch_rows=1, reporter=Silent(), **PLAINLY
    )
    pd.testing.assert_frame_equal(again.items, written.items)
    short = triptych.predict(fake_folder("llama"), rows("test", 3), max_new_ratio=1e-9, reporter=Silent(), **PLAINLY)
    assert set(short.items["n_tokens"]) == {1}
    bare = [{"id": "a", "instruction": "翻譯"}]
    unjudged = triptych.predict(fake_folder("llama"), bare, max_new_tokens=2, reporter=Silent(), **PLAINLY)
    assert unjudged.chrf is None
    assert unjudged.bleu is None
    assert repr(unjudged) == "<Predictions of 1 rows>"
