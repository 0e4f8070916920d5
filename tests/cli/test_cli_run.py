"""`triptych run`, `tune` and `report` from end to end on tiny models."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_model import VOCABULARY
from triptych.records.store import read_items, read_run

Triptych = Callable[..., Any]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def said_report(done: Any) -> Path:
    """The folder of the report that the last line names."""
    what, _, path = done.out.splitlines()[-1].partition(": ")
    assert what == "report"
    assert Path(path).is_file()
    return Path(path).parent


def test_a_uniform_model_costs_its_vocabulary_whatever_is_done(
    triptych: Triptych, project: Any, fake_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """All logits are zero: every token costs ln V under every prompt, and the gradient that trains is zero."""
    model = fake_folder("gemma3", uniform=True)
    done = triptych("run", project.config, "--set", f"model.name={model}", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    record = read_run(tmp_path / "run")
    assert len(record.cells) == 9
    for cell in record.cells:
        for metric in ("ppl_mean", "ppl_corpus", "ppl_geometric"):
            assert getattr(cell.aggregate, metric) == pytest.approx(VOCABULARY, rel=1e-6)
    for rows in read_items(tmp_path / "run" / "items.parquet").values():
        for item in rows:
            assert item.nll_nats == pytest.approx(item.n_tokens * math.log(VOCABULARY), rel=1e-6)
    assert [point.aggregate.ppl_mean for point in record.curve] == pytest.approx([VOCABULARY] * 3, rel=1e-6)
    assert [point.train_loss for point in record.curve[1:]] == pytest.approx([math.log(VOCABULARY)] * 2, rel=1e-6)
    log = (tmp_path / "run" / "tune" / "log.jsonl").read_text().splitlines()
    assert {json.loads(line)["grad_norm"] for line in log} == {0.0}
    for one in record.comparisons:
        assert abs(one.difference) < 1e-3
        assert one.p_holm > 0.05


def test_a_run_ends_with_the_comparison_and_where_the_report_lies(finished: Any) -> None:
    _, run, done = finished
    assert done.err == ""
    assert "QLoRA" in done.out
    assert "zero-shot" in done.out
    assert "few-shot" in done.out
    assert said_report(done) == run
    expected = {"results.json", "items.parquet", "report.md", "curve.csv", "figures", "adapter", "run.lock.json"}
    assert names(run) >= expected
    assert not list(run.rglob("*.tmp"))


def test_the_same_command_again_computes_nothing(
    finished: Any, triptych: Triptych, tmp_path: Path, numbers: Callable[[Path], Any]
) -> None:
    project, run, _ = finished
    shutil.copytree(run, tmp_path / "run")
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "cells").iterdir()}
    done = triptych("run", project.config, "--out", tmp_path / "run")
    assert done.code == 0
    assert "9 of 9 cells are already scored" in done.out
    assert "loading" not in done.out
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
    assert numbers(tmp_path / "run") == numbers(run)


def test_the_folder_is_named_by_the_run(triptych: Triptych, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    sets = ["strategies.few_shot=null", "strategies.qlora=null", "name=zero"]
    done = triptych("run", "exp.yaml", *(part for one in sets for part in ("--set", one)))
    assert done.code == 0, done.err
    assert (project.folder / "runs" / "zero" / "results.json").is_file()
    assert said_report(done) == Path("runs/zero")


def test_a_config_that_changed_is_2_with_the_ways_out(finished: Any, triptych: Triptych, tmp_path: Path) -> None:
    project, run, _ = finished
    shutil.copytree(run, tmp_path / "run")
    command = ["run", project.config, "--out", tmp_path / "run", "--set", "strategies.few_shot.k=[1]"]
    done = triptych(*command, "--set", "strategies.qlora=null")
    assert (done.code, done.out) == (2, "")
    assert "config.strategies.few_shot.k: [1, 2, 3] -> [1]" in done.err
    assert "--out" in done.err
    assert "--fresh" in done.err
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 9
    assert triptych(*command, "--set", "strategies.qlora=null", "--fresh").code == 0
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 4


def test_warnings_are_said_before_the_work(triptych: Triptych, project: Any, tmp_path: Path) -> None:
    rows = json.loads(project.train.read_text())
    rows[0] |= {key: json.loads(project.test.read_text())[0][key] for key in ("instruction", "output")}
    project.train.write_text(json.dumps(rows))
    sets = ["--set", "strategies.few_shot=null", "--set", "strategies.qlora=null"]
    done = triptych("run", project.config, "--out", tmp_path / "run", *sets)
    assert done.code == 0
    assert "warning: 1 of 6 test rows occurs in train" in done.out.replace("\n", " ")
    done = triptych("run", project.config, "--out", tmp_path / "strict", *sets, "--set", "data.strict=true")
    assert done.code == 2
    assert not (tmp_path / "strict").exists()


# --- report


def test_a_report_is_rebuilt_from_the_records(finished: Any, triptych: Triptych, tmp_path: Path) -> None:
    _, run, _ = finished
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("cells", "tune", "adapter"))
    for name in ("figures", "tables"):
        shutil.rmtree(tmp_path / "run" / name)
    for name in ("report.md", "curve.csv"):
        (tmp_path / "run" / name).unlink()
    done = triptych("report", tmp_path / "run")
    assert done.code == 0, done.err
    assert said_report(done) == tmp_path / "run"
    assert (tmp_path / "run" / "report.md").read_text() == (run / "report.md").read_text()
    assert (tmp_path / "run" / "curve.csv").read_text() == (run / "curve.csv").read_text()
    assert names(tmp_path / "run" / "figures") == names(run / "figures")


@pytest.mark.parametrize("name", ["results.json", "items.parquet"])
@pytest.mark.parametrize("harm", ["gone", "torn"])
def test_a_report_without_records_is_2(name: str, harm: str, finished: Any, triptych: Triptych, tmp_path: Path) -> None:
    _, run, _ = finished
    (tmp_path / "run").mkdir()
    for file in ("results.json", "items.parquet"):
        shutil.copy(run / file, tmp_path / "run" / file)
    path = tmp_path / "run" / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-50])
    done = triptych("report", tmp_path / "run")
    assert done.code == 2
    assert str(path) in done.err
    assert "to fix it" in done.err


def test_a_report_of_what_is_no_run_is_2(triptych: Triptych, project: Any) -> None:
    for path in (project.folder / "none", project.train, project.folder):
        done = triptych("report", path)
        assert done.code == 2
        assert "a record is missing" in done.err


# --- tune


@pytest.fixture
def tune(triptych: Triptych, project: Any, tmp_path: Path) -> Callable[..., Any]:
    """`tune(*options, out=)`: `triptych tune` with the settings of the finished run."""
    like_the_run = ["--r", 2, "--epochs", 2, "--batch-size", 4, "--eval-every", 4, "--lr", 0.01]

    def call(*options: object, out: Path = tmp_path / "tune") -> Any:
        rows = ["--data", project.train, "--test", project.test]
        return triptych("tune", *project.given(), *rows, "--out", out, *like_the_run, *options)

    return call


def test_tune_trains_the_adapter_of_the_run(tune: Any, finished: Any, tmp_path: Path) -> None:
    _, run, _ = finished
    done = tune()
    assert done.code == 0, done.err
    weights = "adapter/adapter_model.safetensors"
    assert (tmp_path / "tune" / weights).read_bytes() == (run / weights).read_bytes()
    ours, theirs = read_run(tmp_path / "tune"), read_run(run)
    assert [p.aggregate for p in ours.curve] == [p.aggregate for p in theirs.curve]
    assert [cell.cell for cell in ours.cells] == ["qlora/default"]
    for point in ours.curve:
        assert f"step {point.step:5d}  test  ppl_mean {point.aggregate.ppl_mean:.4f}" in done.out
    assert f"adapter: {tmp_path / 'tune' / 'adapter'}" in done.out


def test_options_of_tune_are_its_hyper_parameters(tune: Any, tmp_path: Path) -> None:
    done = tune(
        *("--alpha", 8, "--dropout", 0.1, "--target-modules", "q_proj,v_proj", "--max-steps", 3),
        *("--schedule", "linear", "--warmup", 0.5, "--accumulation", 2, "--seed", 5, "--eval-rows", 2),
        *("--dev-rows", 2, "--select", "dev", "--limit", 10, "--prompt", "emotional"),
    )
    assert done.code == 0, done.err
    summary = read_run(tmp_path / "tune").tune
    assert summary is not None
    expected = {
        "r": 2,
        "alpha": 8.0,
        "dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
        "max_steps": 3,
        "schedule": "linear",
        "warmup": 0.5,
        "batch_size": 4,
        "accumulation": 2,
        "seed": 5,
        "eval_rows": 2,
        "select": "dev",
        "lr": 0.01,
    }
    assert {key: summary.settings[key] for key in expected} == expected
    assert (summary.prompt, summary.rows, summary.steps, summary.selected_by) == ("emotional", 10, 3, "dev")
    log = [json.loads(line) for line in (tmp_path / "tune" / "tune" / "log.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in log] == pytest.approx([0, 0.005, 0.01])


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--lr", -1], ["`tune.lr` can't be used", "the command line", "greater than 0"]),
        (["--target-modules", "q_porj"], ["q_porj", "q_proj"]),
        (["--select", "dev"], ["to choose on dev rows", "data.dev_rows"]),
        (["--limit", 1000], ["1000 asked for, 14 there"]),
        (["--prompt", "nope"], ["there is no prompt named `nope`"]),
        (["--schedule", "cubic"], ["--schedule"]),
    ],
)
def test_wrong_options_of_tune_are_2_and_the_right_ones_then_begin(
    options: list[object], messages: list[str], tune: Any, tmp_path: Path
) -> None:
    done = tune(*options)
    assert done.code == 2
    for message in messages:
        assert message in done.err
    assert not (tmp_path / "tune" / "adapter").exists()
    if options[0] == "--target-modules":  # found out late, when the folder was begun already
        assert tune("--target-modules", "q_proj", "--max-steps", 1).code == 0


def test_tune_with_other_settings_is_refused_in_the_same_folder(tune: Any, tmp_path: Path) -> None:
    assert tune("--max-steps", 2).code == 0
    weights = (tmp_path / "tune" / "adapter" / "adapter_model.safetensors").read_bytes()
    done = tune("--max-steps", 3)
    assert done.code == 2
    assert "config.tune.max_steps: 2 -> 3" in done.err
    assert (tmp_path / "tune" / "adapter" / "adapter_model.safetensors").read_bytes() == weights
    assert tune("--max-steps", 3, "--fresh").code == 0
    assert (tmp_path / "tune" / "adapter" / "adapter_model.safetensors").read_bytes() != weights


def test_divergence_is_1_and_says_what_is_kept(tune: Any, tmp_path: Path) -> None:
    # the first step is at rate 0 (warm-up) and changes nothing; after the second, B times alpha overflows
    done = tune("--lr", 1, "--alpha", 1e15, "--warmup", 0.5, "--eval-every", 1)
    assert done.code == 1
    assert done.err.startswith("error: training diverged")
    assert "kept: checkpoint of step" in done.err
    assert "--fresh" in done.err
    assert not (tmp_path / "tune" / "adapter").exists()
    assert list((tmp_path / "tune" / "tune" / "checkpoints").iterdir())


def test_a_metric_that_fails_ends_a_run_with_its_report_and_exit_code_1(
    triptych: Triptych, project: Any, tmp_path: Path
) -> None:
    (project.config.parent / "failing_metric.py").write_text(
        "def f(text, reference):\n    raise ValueError('never')\n", encoding="utf-8"
    )
    sets = ("metrics=[exact_match,perplexity,failing_metric:f]", "strategies={zero_shot: {}}", "generate.rows=2")
    given = [part for one in sets for part in ("--set", one)]
    done = triptych("run", project.config, *given, "--out", tmp_path / "run")
    assert done.code == 1
    assert "failing_metric:f raised ValueError: never" in done.err and "row '" in done.err
    assert said_report(done) == tmp_path / "run"
    for cell in read_run(tmp_path / "run").cells:
        assert set(cell.aggregate.metrics) == {"exact_match"}
        assert cell.aggregate.metrics["exact_match"].n == 2
