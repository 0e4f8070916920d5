"""`triptych score`: the contract of scores.json, its numbers against the plain reference, and its options."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference import reference_nll
from triptych.api import calls
from triptych.progress import Silent
from triptych.prompts import find_template

Triptych = Callable[..., Any]

ITEM = {"id", "nll_nats", "n_tokens", "n_chars", "ppl", "n_demos", "metrics"}
AGGREGATE = {"ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char", "n_rows", "n_tokens", "metrics"}


@pytest.fixture
def score(triptych: Triptych, project: Any) -> Callable[..., Any]:
    """`score(*options)`: (how it ended, scores.json or None)."""

    def call(*options: object, data: Path | None = None) -> tuple[Any, dict[str, Any] | None]:
        out = project.folder / "scores.json"
        out.unlink(missing_ok=True)
        done = triptych("score", *project.given(), "--no-cache", "--data", data or project.test, "--out", out, *options)
        assert not list(project.folder.glob(".*.tmp"))
        return done, json.loads(out.read_text(encoding="utf-8")) if out.exists() else None

    return call


def without_metrics(scores: dict[str, Any]) -> dict[str, Any]:
    """The averages, which are plain numbers; of perplexity alone there are no others."""
    assert scores["aggregate"]["metrics"] == {}
    return {name: value for name, value in scores["aggregate"].items() if name != "metrics"}


def rows_of(path: Path) -> list[dict[str, str]]:
    value: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return value


def test_keys_are_those_of_the_contract(score: Any) -> None:
    done, scores = score()
    assert done.code == 0
    assert set(scores) == {"schema_version", "items", "aggregate", "provenance"}
    assert scores["schema_version"] == 1
    assert set(scores["aggregate"]) == AGGREGATE
    for item in scores["items"]:
        assert item.keys() >= ITEM
        # what else there is says what was shown
        assert item.keys() - ITEM == {"n_prompt_tokens", "n_demos_dropped", "demo_ids"}
    assert {"model", "prompt", "data", "protocol", "packages", "command", "git"} <= scores["provenance"].keys()


@pytest.mark.parametrize("prompt", ["default", "emotional"])
def test_numbers_are_the_plain_references(prompt: str, score: Any, project: Any, load_fake: Callable[..., Any]) -> None:
    _, scores = score("--prompt", prompt)
    loaded = load_fake("llama")
    template = find_template(prompt)
    ppl = []
    total, tokens, chars = 0.0, 0, 0
    for row, item in zip(rows_of(project.test), scores["items"], strict=True):
        nll = reference_nll(loaded.model, loaded.profile.tokenizer, template.prompt(row["instruction"]), row["output"])
        assert item["id"] == row["id"]
        assert (item["n_tokens"], item["n_chars"], item["n_demos"]) == (len(nll), len(row["output"]), 0)
        assert item["nll_nats"] / item["n_tokens"] == pytest.approx(sum(nll) / len(nll), abs=1e-5)
        assert item["ppl"] == pytest.approx(math.exp(item["nll_nats"] / item["n_tokens"]))
        ppl.append(math.exp(sum(nll) / len(nll)))
        total, tokens, chars = total + sum(nll), tokens + len(nll), chars + len(row["output"])
    aggregate = scores["aggregate"]
    assert aggregate["ppl_mean"] == pytest.approx(sum(ppl) / 6, rel=1e-5)
    assert aggregate["ppl_corpus"] == pytest.approx(math.exp(total / tokens), rel=1e-5)
    assert aggregate["ppl_geometric"] == pytest.approx(math.exp(sum(map(math.log, ppl)) / 6), rel=1e-5)
    assert aggregate["bits_per_char"] == pytest.approx(total / math.log(2) / chars, rel=1e-5)
    assert (aggregate["n_rows"], aggregate["n_tokens"]) == (6, tokens)


def test_the_averages_are_printed(score: Any, project: Any) -> None:
    done, scores = score()
    first, second = done.out.splitlines()
    for key in ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char"):
        assert f"{key} {scores['aggregate'][key]:.4f}" in first
    assert second == f"scores: {project.folder / 'scores.json'}"
    assert done.err == ""


@pytest.mark.parametrize("draw", ["item", "seed"])
def test_shots_are_shown_and_named(draw: str, score: Any, project: Any, load_fake: Callable[..., Any]) -> None:
    _, scores = score("--shots", 2, "--seed", 3, "--draw", draw, "--pool", project.train)
    train = {row["id"]: row for row in rows_of(project.train)}
    assert {item["n_demos"] for item in scores["items"]} == {2}
    assert (len({tuple(item["demo_ids"]) for item in scores["items"]}) == 1) == (draw == "seed")
    loaded, template = load_fake("llama"), find_template("default")
    for row, item in zip(rows_of(project.test), scores["items"], strict=True):
        few = template.few_shot
        demos = "".join(
            few.demo.replace("{i}", str(i)).replace("{instruction}", d["instruction"]).replace("{output}", d["output"])
            for i, d in enumerate((train[name] for name in item["demo_ids"]), 1)
        )
        prompt = (
            few.head.replace("{preamble}", template.preamble).replace("{k}", "2")
            + demos
            + few.tail.replace("{instruction}", row["instruction"])
        )
        nll = reference_nll(loaded.model, loaded.profile.tokenizer, prompt, row["output"])
        assert item["nll_nats"] / item["n_tokens"] == pytest.approx(sum(nll) / len(nll), abs=1e-5)
    facts = scores["provenance"]
    assert (facts["shots"], facts["seed"], facts["draw"]) == (2, 3, draw)
    assert set(facts["data"]) == {"data", "pool"}


def test_the_seed_decides_what_is_shown(score: Any, project: Any) -> None:
    shown = [
        [item["demo_ids"] for item in score("--shots", 2, "--seed", seed, "--pool", project.train)[1]["items"]]
        for seed in (0, 0, 1)
    ]
    assert shown[0] == shown[1] != shown[2]


def test_chosen_demonstrations_are_those_of_a_run(score: Any, project: Any, triptych: Triptych, tmp_path: Path) -> None:
    """One cell by hand and the cell of an experiment show and score the same."""
    _, scores = score("--shots", 2, "--pool", project.train, "--select", "bm25", "--order", "nearest-first")
    changes = {
        "strategies.zero_shot": "null",
        "strategies.few_shot": "{k: [2], select: [bm25], order: [nearest-first]}",
        "strategies.qlora": "null",
    }
    out = tmp_path / "run"
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    done = triptych("run", project.config, "--out", out, *sets)
    assert done.code == 0, done.err
    (cell,) = (json.loads(path.read_text(encoding="utf-8")) for path in (out / "cells").glob("*.json"))
    assert [item["demo_ids"] for item in cell["items"]] == [item["demo_ids"] for item in scores["items"]]
    for item, other in zip(cell["items"], scores["items"], strict=True):
        assert item["nll_nats"] == pytest.approx(other["nll_nats"], rel=1e-6)
    facts = scores["provenance"]
    assert (facts["select"], facts["order"], facts["seed"]) == ("bm25", "nearest-first", None)


def test_mmr_shows_what_a_run_with_its_lambda_shows(
    score: Any, project: Any, triptych: Triptych, tmp_path: Path
) -> None:
    given = ("--shots", 3, "--pool", project.train, "--select", "mmr")
    shown = {}
    for number in (0, 0.5, 1):
        _, scores = score(*given, "--mmr-lambda", number)
        shown[number] = [item["demo_ids"] for item in scores["items"]]
        assert scores["provenance"].get("mmr_lambda", 0.5) == number
        changes = {
            "strategies.zero_shot": "null",
            "strategies.few_shot": "{k: [3], select: [mmr]}",
            "strategies.qlora": "null",
            "strategies.demos.mmr_lambda": number,
        }
        out = tmp_path / f"run-{number}"
        sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
        done = triptych("run", project.config, "--out", out, *sets)
        assert done.code == 0, done.err
        (cell,) = (json.loads(path.read_text(encoding="utf-8")) for path in (out / "cells").glob("*.json"))
        assert [item["demo_ids"] for item in cell["items"]] == shown[number]
    assert shown[0] != shown[1]
    assert [item["demo_ids"] for item in score(*given)[1]["items"]] == shown[0.5]
    done, scores = score(*given, "--mmr-lambda", 1.5)
    assert (done.code, scores) == (2, None)
    assert "where: --mmr-lambda" in done.err


def test_limit_takes_the_first_rows(score: Any) -> None:
    every = score()[1]["items"]
    some = score("--limit", 2)[1]
    assert [item["id"] for item in some["items"]] == ["test-0", "test-1"]
    assert some["aggregate"]["n_rows"] == 2
    for one, other in zip(some["items"], every, strict=False):
        assert one["nll_nats"] == pytest.approx(other["nll_nats"], rel=1e-6)
    assert len(score("--limit", 99)[1]["items"]) == 6


def test_a_template_as_text_or_file_is_the_same(score: Any, project: Any) -> None:
    text = "把這句翻成古文：{instruction}\n答："
    as_text = score("--template", text)[1]
    (project.folder / "mine.txt").write_text(text + "\n", encoding="utf-8")
    (project.folder / "mine.yaml").write_text(json.dumps({"zero_shot": text}), encoding="utf-8")
    for name in ("mine.txt", "mine.yaml"):
        as_file = score("--template", project.folder / name)[1]
        assert as_file["items"] == as_text["items"]
        assert as_file["provenance"]["prompt"]["sha256"] == as_text["provenance"]["prompt"]["sha256"]
        assert as_file["provenance"]["prompt"]["name"] == "mine"
    assert as_text["provenance"]["prompt"]["zero_shot"] == text
    assert as_text["items"] != score()[1]["items"]


def test_demonstrations_that_do_not_fit_are_said(score: Any, project: Any) -> None:
    fits = score("--shots", 3, "--pool", project.train)[1]["items"]
    longest = max(item["n_prompt_tokens"] + item["n_tokens"] for item in fits)
    done, scores = score("--shots", 3, "--pool", project.train, "--max-tokens", longest - 1)
    dropped = sum(item["n_demos_dropped"] for item in scores["items"])
    assert dropped >= 1
    assert f"warning: {dropped} demonstrations did not fit {longest - 1} tokens and were dropped" in done.out
    assert scores["provenance"]["max_tokens"] == longest - 1


def test_rows_of_the_pool_that_are_scored_are_not_shown(score: Any, project: Any) -> None:
    rows = rows_of(project.train) + [{**row, "id": f"again-{row['id']}"} for row in rows_of(project.test)]
    pool = project.folder / "pool.json"
    pool.write_text(json.dumps(rows))
    done, scores = score("--shots", 14, "--pool", pool)
    assert "6 of 6 test rows occur in train" in done.out
    assert all(len(item["demo_ids"]) == 14 for item in scores["items"])
    assert not any(name.startswith("again") for item in scores["items"] for name in item["demo_ids"])
    done, scores = score("--shots", 15, "--pool", pool)
    assert (done.code, scores) == (2, None)
    assert "--shots 15, 14 rows in" in done.err


# --- with an adapter


def test_an_adapter_scores_as_in_its_run(finished: Any, triptych: Triptych, tmp_path: Path) -> None:
    project, run, _ = finished
    out = tmp_path / "scores.json"
    options = ["--no-cache", "--data", project.test, "--out", out]
    arguments = ["score", *project.given(), *options, "--adapter", run / "adapter"]
    done = triptych(*arguments)
    assert done.code == 0
    assert "warning" not in done.out + done.err
    scores = json.loads(out.read_text())
    record = json.loads((run / "results.json").read_text())
    [cell] = [cell for cell in record["cells"] if cell["cell"] == "qlora/default"]
    assert without_metrics(scores) == pytest.approx(without_metrics(cell), rel=1e-9)
    assert scores["provenance"]["adapter"]["adapter_sha256"] == cell["adapter_sha256"]
    # and off, it is the zero-shot cell
    triptych(*[a for a in arguments if a not in ("--adapter", run / "adapter")])
    [zero] = [cell for cell in record["cells"] if cell["cell"] == "zero_shot/default"]
    assert without_metrics(json.loads(out.read_text())) == pytest.approx(without_metrics(zero), rel=1e-9)


def test_an_adapter_of_another_prompt_warns(finished: Any, triptych: Triptych, tmp_path: Path) -> None:
    project, run, _ = finished
    options = ["--data", project.test, "--adapter", run / "adapter", "--prompt", "emotional", "--limit", 2]
    done = triptych("score", *project.given(), *options, "--out", tmp_path / "s.json")
    assert done.code == 0
    assert "warning: the adapter was trained with another prompt (default)" in done.out


def test_an_adapter_of_another_base_is_refused(
    finished: Any, triptych: Triptych, tmp_path: Path, fake_folder: Callable[..., Path]
) -> None:
    project, run, _ = finished
    options = ["--model", fake_folder("llama", seed=1), "--quantize", "none", "--threads", 1]
    done = triptych(
        "score", *options, "--data", project.test, "--adapter", run / "adapter", "--out", tmp_path / "s.json"
    )
    assert done.code == 2
    assert "trained on another base model" in done.err
    assert not (tmp_path / "s.json").exists()


# --- what can't be scored


def broken_rows(folder: Path) -> dict[str, tuple[str, str]]:
    """Name -> (content, what is said)."""
    row = {"id": "a", "instruction": "x", "output": "y"}
    return {
        "broken.json": ("[{", "JSON"),
        "empty.json": ("[]", "there are no rows"),
        "nothing.json": ("", "error"),
        "outputless.json": (json.dumps([row, {"id": "the-second", "instruction": "x"}]), "the-second"),
        "twice.json": (json.dumps([row, row]), "more than once"),
    }


@pytest.mark.parametrize("name", sorted(broken_rows(Path())))
def test_data_that_can_not_be_used(name: str, score: Any, project: Any) -> None:
    content, message = broken_rows(project.folder)[name]
    (project.folder / name).write_text(content)
    done, scores = score(data=project.folder / name)
    assert (done.code, scores) == (2, None)
    assert message in done.err
    assert name in done.err
    assert "to fix it" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", 2], "--shots 2 without --pool"),
        (["--shots", 99, "--pool", "{train}"], "--shots 99, 14 rows in"),
        (["--prompt", "emotinal"], "did you mean `emotional`?"),
        (["--template", "no field"], "neither a readable file nor a text with {instruction}"),
        (["--template", "{instructoin}"], "did you mean {instruction}?"),
        (["--adapter", "{folder}"], "holds no adapter"),
        (["--device", "gpux"], "auto, cpu, cuda or cuda:N"),
        (["--max-tokens", 50], "6 rows test-0, test-1,"),
        (["--data", "{folder}/tset.json"], "test.json"),
        (["--model", "{folder}"], "config.json"),
        (["--model", "{folder}/no/such"], "there is no such model folder"),
    ],
)
def test_a_wrong_request_is_2_and_leaves_nothing(options: list[Any], message: str, score: Any, project: Any) -> None:
    places = {"train": project.train, "folder": project.folder}
    filled = [
        str(option).replace("{train}", str(places["train"])).replace("{folder}", str(places["folder"]))
        for option in options
    ]
    done, scores = score(*filled)
    assert (done.code, scores) == (2, None)
    assert message in done.err
    assert "Traceback" not in done.err


def test_out_is_a_folder(triptych: Triptych, project: Any) -> None:
    done = triptych("score", *project.given(), "--data", project.test, "--out", project.folder)
    assert done.code == 2
    assert f"--out {project.folder / 'scores.json'}" in done.err


def test_an_error_leaves_the_scores_of_before(score: Any, project: Any, triptych: Triptych) -> None:
    score()
    out = project.folder / "scores.json"
    before = out.read_bytes()
    done = triptych("score", *project.given(), "--data", project.test, "--prompt", "nope", "--out", out)
    assert done.code == 2
    assert out.read_bytes() == before


def test_weights_that_give_no_numbers_are_1_and_name_the_row(
    score: Any, project: Any, tmp_path: Path, fake_folder: Callable[..., Path]
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(fake_folder("llama"), tmp_path / "nan")
    weights = load_file(tmp_path / "nan" / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, tmp_path / "nan" / "model.safetensors", metadata={"format": "pt"})
    done, scores = score("--model", tmp_path / "nan")
    assert (done.code, scores) == (1, None)
    assert "no finite likelihood for row 'test-" in done.err


def test_accuracy_is_measured_between_the_options_that_are_given(score: Any, project: Any) -> None:
    rows = rows_of(project.test)
    options = sorted({row["output"] for row in rows})
    file = project.folder / "options.txt"
    file.write_text("\n".join(options), encoding="utf-8")
    done, scores = score("--metric", "accuracy", "--choices", file)
    assert done.code == 0
    accuracy = scores["aggregate"]["metrics"]["accuracy"]
    assert accuracy["n"] == len(rows)
    assert accuracy["value"] == pytest.approx(sum(i["metrics"]["accuracy"] for i in scores["items"]) / len(rows))
    assert accuracy["ci_low"] <= accuracy["value"] <= accuracy["ci_high"]
    for row, item in zip(rows, scores["items"], strict=True):
        assert item["chosen"] in options
        assert item["metrics"]["accuracy"] == float(item["chosen"] == row["output"])
        assert item["correct"] == options.index(row["output"])
        # the reference is one of the options, and its NLL is the row's
        assert item["option_nll"][item["correct"]] == pytest.approx(item["nll_nats"], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--metric", "acuracy"], "did you mean `accuracy`"),
        (["--metric", "accuracy"], "no training rows"),
        (["--choices", "only"], "only"),
        (["--choices", "a,a"], "two options or more"),
    ],
)
def test_options_that_can_not_be_used_are_named(score: Any, options: list[str], expected: str) -> None:
    done, scores = score(*options)
    assert (done.code, scores) == (2, None)
    assert expected in done.err


def test_metrics_of_texts_write_them(score: Any, project: Any) -> None:
    done, scores = score("--metric", "f1", "--metric", "exact_match", "--limit", 2, "--max-tokens", 600)
    assert done.code == 0
    for row, item in zip(rows_of(project.test), scores["items"], strict=False):
        assert isinstance(item["output"], str)
        assert item["metrics"]["exact_match"] == float(item["output"].split() == row["output"].split())
    values = [item["metrics"]["f1"] for item in scores["items"]]
    assert scores["aggregate"]["metrics"]["f1"]["value"] == pytest.approx(sum(values) / 2)
    assert scores["provenance"]["generation"]["temperature"] == 0


def test_a_metric_of_the_users_that_fails_is_named_and_the_scores_are_there(
    score: Any, project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gives_text.py").write_text("def f(text, reference):\n    return 'good'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = {"metric": ["gives_text:f", "exact_match"], "limit": 2, "max_tokens": 600}
    done, scores = score(*("--metric", "gives_text:f", "--metric", "exact_match", "--limit", 2, "--max-tokens", 600))
    assert done.code == 1
    assert "row 'test-0': gives_text:f gave 'good'" in done.err
    assert set(scores["aggregate"]["metrics"]) == {"exact_match"}
    held = {"quantize": "none", "dtype": "float32", "threads": 1}
    called = calls.score(project.model, project.test, reporter=Silent(), **held, **asked)  # no file to read
    assert set(called.failed) == {"gives_text:f"}
    assert called.aggregate.metrics["exact_match"].n == len(called.items) == 2


def test_no_room_for_texts_is_said_before_anything_is_scored(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.runner.scoring.measure", lambda *_: pytest.fail("scored already"))
    done, scores = score("--metric", "f1", "--template", "{instruction}", "--max-tokens", 100)
    assert (done.code, scores) == (2, None)
    assert "256 new tokens" in done.err and "raise --max-tokens" in done.err
    assert "--max-new-tokens" not in done.err  # `score` has no such option


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("o.json", b"{", "is no JSON"),
        ("o.json", b'{"a": 1}', "holds no list"),
        ("o.txt", b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_of_options_that_can_not_be_read_is_named(
    score: Any, project: Any, name: str, content: bytes, expected: str
) -> None:
    (project.folder / name).write_bytes(content)
    done, scores = score("--choices", project.folder / name)
    assert (done.code, scores) == (2, None)
    assert expected in done.err and name in done.err


def test_a_file_of_options_is_not_written_over(triptych: Triptych, project: Any) -> None:
    file = project.folder / "options.json"
    file.write_text(json.dumps(sorted({row["output"] for row in rows_of(project.test)})), encoding="utf-8")
    before = file.read_bytes()
    given = [*project.given(), "--data", project.test, "--choices", file]
    done = triptych("score", *given, "--out", file, "--force")
    assert done.code == 2 and "--choices" in done.err
    assert file.read_bytes() == before
