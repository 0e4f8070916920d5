"""The examples that are run for docs/results, on a few made-up rows, with the bundled models' real weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from triptych.config.read import read_config
from triptych.grid.cells import grid
from triptych.records import RunRecord
from triptych.report import Study, answer
from triptych.runner.run import run_experiment

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ["tune.max_steps=2", "tune.eval_every=2", "tune.batch_size=4", "cache=false"]
MESSAGES = {
    "card_arrival": ["my card isn't here yet", "when does the card come", "still no card in the post", "card, when?"],
    "lost_or_stolen_card": ["somebody took my card", "I lost my card", "card gone, was in my bag", "my card is stolen"],
    "exchange_rate": [
        "what do I pay for dollars",
        "your rate for euros",
        "is the rate of today good",
        "rate of pounds",
    ],
}


def run_small(name: str, out: Path, *sets: str) -> RunRecord:
    """Run an example cut down; all of its cells must be there, in its first metric."""
    config = read_config(EXAMPLES / name, [*SMALL, *sets])
    record = run_experiment(config, out)
    assert [cell.cell for cell in record.cells] == [cell.name for cell in grid(config)]
    first = config.metrics[0]
    assert first == "perplexity" or all(first in cell.aggregate.metrics for cell in record.cells)
    assert first == "perplexity" or first in " ".join(answer(Study(record)))
    assert (out / "report.html").is_file()
    return record


def test_intents(tmp_path: Path) -> None:
    sets = ["data.test_sample=6", "data.train_rows=24", "strategies.few_shot.seeds=[0]"]
    record = run_small("intents.yaml", tmp_path / "run", *sets)
    assert {cell.aggregate.n_rows for cell in record.cells} == {6}


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A folder as Banking77's: columns text and category."""
    for name in ("train", "test"):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["text", "category"])
            for intent, texts in MESSAGES.items():
                lines.writerows([f"{text} ({name})", intent] for text in (texts if name == "train" else texts[:2]))
    return tmp_path


def test_banking77(bank: Path, tmp_path: Path) -> None:
    # 12 rows are there: of 50 and 100 demonstrations all are shown that there are
    sets = [f"data.dir={bank}", "data.test_sample=4", "strategies.few_shot.k=[1, 10]"]
    record = run_small("papers/banking77.yaml", tmp_path / "run", *sets)
    assert {cell.k for cell in record.cells} == {0, 1, 10}


def test_banking77_tuned(bank: Path, tmp_path: Path) -> None:
    sets = [f"data.dir={bank}", "data.test_sample=4", "data.train_rows=8"]
    record = run_small("papers/banking77-tuned.yaml", tmp_path / "run", *sets)
    assert record.tune is not None and record.tune.rows == 8


def test_gsm8k(tmp_path: Path) -> None:
    for name, n in (("train", 12), ("test", 3)):
        rows = [
            {"question": f"Ann has {i} pears and buys {i + 2}. How many? ({name})", "answer": f"#### {2 * i + 2}"}
            for i in range(1, n + 1)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    sets = [f"data.dir={tmp_path}", "data.test_sample=3", "data.train_rows=8", "generate.max_new_tokens=8"]
    record = run_small("papers/gsm8k.yaml", tmp_path / "run", *sets)
    assert {one.cell for one in record.generations} == {cell.cell for cell in record.cells}


def test_hw3_qwen(tmp_path: Path) -> None:
    for name, n in (("train", 14), ("public_test", 3)):
        rows = [
            {"id": f"{name}-{i}", "instruction": f"翻譯成文言文：\n第{i}天下雨了。", "output": f"第{i}日雨。"}
            for i in range(n)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    sets = [f"data.dir={tmp_path}", "model.name=demo-chat", "data.test_sample=3", "data.train_rows=12"]
    sets += ["strategies.few_shot.k=[1, 2]", "strategies.few_shot.seeds=[0]", "generate.max_new_tokens=4"]
    record = run_small("hw3/qwen.yaml", tmp_path / "run", *sets)
    assert all(one.chrf is not None for one in record.generations)
    assert len(record.generations) == 3
