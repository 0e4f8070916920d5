"""`triptych data check` and `triptych config`, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Triptych = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    train = [{"id": f"r{n}", "instruction": f"Say:\nnumber {n % 5}", "output": f"o{n}"} for n in range(8)]
    test = [{"id": "t0", "instruction": "Say:\nnumber 1", "output": "[b]x\u200b"}]
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path / "train.json", tmp_path / "test.json"


def test_data_check(files: tuple[Path, Path], triptych: Triptych) -> None:
    done = triptych("data", "check", *files)
    assert (done.code, done.err) == (0, "")
    for text in ("8 rows", "triptych (instruction", "instructions asked", "U+200B", "test instructions that"):
        assert text in " ".join(done.out.split())


def test_data_check_as_json(files: tuple[Path, Path], triptych: Triptych) -> None:
    done = triptych("data", "check", *files, "--json")
    found = json.loads(done.out)
    assert found["train"]["instructions"] | {"examples": []} == {"n_groups": 3, "n_rows": 6, "examples": []}
    assert found["across"]["instructions"]["n_groups"] == 1
    assert found["test"]["odd"]["invisible characters"]["code_points"] == {"U+200B": 1}


def test_data_check_with_tokens(files: tuple[Path, Path], triptych: Triptych, fake_folder: Callable[..., Path]) -> None:
    done = triptych("data", "check", files[0], "--json", "--model", fake_folder("llama"))
    lengths = json.loads(done.out)["train"]["lengths"]
    assert lengths["instruction tokens"]["mean"] > 0


def test_data_check_of_nothing_wrong(tmp_path: Path, triptych: Triptych) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("q,a\nwho,me\nwhen,now\n")
    assert triptych("data", "check", path).code == 2
    done = triptych("data", "check", path, "--column", "instruction=q", "--column", "output=a")
    assert "nothing found" in done.out
    done = triptych("data", "check", path, "--column", "instruction")
    assert (done.code, "NAME=COLUMN" in done.err) == (2, True)


def test_data_check_of_the_sample(triptych: Triptych) -> None:
    done = triptych("data", "check", "sample/train.json", "sample/test.json")
    assert done.code == 0
    assert "280 rows" in done.out


def test_config_schema(triptych: Triptych) -> None:
    done = triptych("config", "schema")
    assert json.loads(done.out)["properties"]["strategies"]


def test_config_init(files: tuple[Path, Path], tmp_path: Path, triptych: Triptych) -> None:
    out = tmp_path / "exp.yaml"
    done = triptych("config", "init", "--train", files[0], "--test", files[1], "--out", out)
    assert (done.code, done.err) == (0, "")
    assert f"written: {out}" in done.out
    assert triptych("config", "init", "--out", out).code == 2
    done = triptych("config", "init", "--out", out, "--force", "--test", tmp_path / "none.json")
    assert "is not there yet" in done.err


def test_config_init_looks_at_the_model_and_the_rows(tmp_path: Path, triptych: Triptych) -> None:
    rows = [
        {"instruction": f"What do you think of it? Number {n}", "output": "good" if n % 3 else "bad"} for n in range(9)
    ]
    for name in ("train", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    out = tmp_path / "exp.yaml"
    done = triptych(
        *("config", "init", "--model", "demo-chat", "--train", tmp_path / "train.json"),
        *("--test", tmp_path / "test.json", "--out", out),
    )
    assert (done.code, done.err) == (0, "")
    assert "prompts are for a model with a chat template, rows in English" in done.out
    assert "metrics are accuracy and perplexity: 2 distinct outputs in 9 training rows" in done.out
    written = yaml.safe_load(out.read_text())
    assert written["metrics"] == ["accuracy", "perplexity"]
    assert written["strategies"]["zero_shot"]["prompts"] == ["chat", "chat-brief-en"]
    assert written["strategies"]["few_shot"]["prompts"] == ["multiturn"]
    assert written["strategies"]["qlora"]["prompt"] == "chat"
    done = triptych(
        "config", "init", "--model", "nobody/none", "--train", tmp_path / "train.json", "--out", out, "--force"
    )
    assert (done.code, "the model can't be looked at" in done.err) == (0, True)
    assert yaml.safe_load(out.read_text())["strategies"]["few_shot"]["prompts"] == ["neutral-task-en"]


def test_config_init_reads_no_file_of_another_tool(tmp_path: Path, triptych: Triptych) -> None:
    done = triptych("config", "init", "--from", tmp_path / "axolotl.yml", "--out", tmp_path / "exp.yaml")
    assert done.code == 2
    assert "No such option: --from" in done.err
    assert not (tmp_path / "exp.yaml").exists()
