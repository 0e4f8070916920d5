"""`triptych predict`, from the command line to the files it leaves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from plain_generate import one_by_one, prompt_of

from fork_server import Commands
from triptych.config.choices import Order, Select
from triptych.data import Row, read_rows
from triptych.generate.record import record_of
from triptych.generate.resume_file import part_of
from triptych.prompts import draw_demos, find_template, render_prompt

PIECES = ["春眠", "不覺曉", "處處", "聞啼鳥", "夜來", "風雨", "花落", "知多少"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def triptych(*arguments: object) -> Done:
    from triptych.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["triptych", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def rows_of(n: int, name: str, *, outputs: bool) -> list[dict[str, str]]:
    rows = []
    for i in range(n):
        row = {
            "id": f"{name}-{i}",
            "instruction": f"{name} 翻譯：" + "".join(PIECES[(i + j) % 8] for j in range(1 + i % 4)),
        }
        rows.append({**row, **({"output": PIECES[(3 * i) % 8]} if outputs else {})})
    return rows


class Project(NamedTuple):
    folder: Path
    model: Path

    def command(self, *options: object, data: str = "rows.json", out: str = "p.json") -> list[object]:
        given = ["--model", self.model, "--quantize", "none", "--dtype", "float32", "--threads", 1]
        return [
            "predict",
            *given,
            "--data",
            self.folder / data,
            "--out",
            self.folder / out,
            "--max-new-tokens",
            12,
            *options,
        ]

    def run(self, *options: object, **files: str) -> Done:
        return triptych(*self.command(*options, **files))

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"rows.json", "test.json", "pool.json"}


@pytest.fixture
def project(tmp_path: Path, fake_folder: Callable[..., Path]) -> Project:
    for name, n, outputs in (("rows", 7, False), ("test", 5, True), ("pool", 9, True)):
        text = json.dumps(rows_of(n, name, outputs=outputs), ensure_ascii=False)
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    return Project(tmp_path, fake_folder("llama"))


@pytest.mark.parametrize("shots", [0, 2])
def test_the_file_holds_what_generate_writes(shots: int, project: Project, load_fake: Callable[..., Any]) -> None:
    done = project.run("--no-stop-texts", "--shots", shots, "--seed", 3, "--pool", project.folder / "pool.json")
    assert (done.code, done.err) == (0, "")
    loaded, template = load_fake("llama"), find_template("default")
    pool = [Row(row["id"], row["instruction"], row["output"]) for row in project.read("pool.json")]
    prompts = []
    for row in project.read("rows.json"):
        demos = draw_demos(pool, shots, seed=3, draw="item", row_id=row["id"])
        text = template.prompt(row["instruction"], demos)
        prompts.append(prompt_of(row["id"], (loaded.profile.bos_id, *loaded.profile.encode(text))))
    tokenizer = loaded.profile.tokenizer
    expected = []
    for prompt, tokens in zip(prompts, one_by_one(loaded, prompts, max_new_tokens=12), strict=True):
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        text = text if tokens[-1] == 257 else text.rstrip("\ufffd")
        expected.append({"id": prompt.row_id, "output": text.strip()})
    assert project.read("p.json") == expected
    assert project.files() == {"p.json", "p.record.json"}
    assert "7 rows, " in done.out
    assert done.out.splitlines()[-1] == f"predictions: {project.folder / 'p.json'}"


def test_files_of_predictions_share_no_record() -> None:
    outs = [Path("a.json"), Path("a.txt"), Path("a.jsonl")]
    assert len({record_of(out) for out in outs}) == len({part_of(out) for out in outs}) == len(outs)
    assert record_of(Path("a.txt")).name == "a.txt.record.json"


def test_the_record_says_what_made_them(project: Project) -> None:
    project.run("--shots", 1, "--pool", project.folder / "pool.json", "--stop", "a.b", data="test.json")
    record = project.read("p.record.json")
    facts = record["facts"]
    assert facts["prompt_sha256"] == find_template("default").sha256
    assert facts["model"]["dtype"] == "float32"
    assert facts["demonstrations"].keys() == {"shots", "select", "seed", "draw", "pool_sha256"}
    assert facts["generation"]["max_new_tokens"] == 12
    assert facts["generation"]["stop_patterns"][0] == "a\\.b"
    assert "ASSISTANT:" in facts["generation"]["stop_patterns"]
    assert [row["id"] for row in record["rows"]] == [f"test-{i}" for i in range(5)]
    assert {row["stopped_by"] for row in record["rows"]} <= {"eos", "stop_text", "length"}
    assert {"model", "prompt", "packages", "command"} <= record["provenance"].keys()
    assert record["quality"]["n_rows"] == 5
    assert "nw:2" in record["quality"]["chrf_signature"]
    assert "tok:zh" in record["quality"]["bleu_signature"]


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("select", ["bm25", "embedding", "mmr", "same", "shortest"])
def test_demonstrations_are_chosen_as_in_an_experiment(
    select: Select, adapter: bool, project: Project, load_fake: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    from triptych.config.strategies import DemosConfig
    from triptych.grid.cells import CellSpec
    from triptych.grid.demonstrations import Demonstrations
    from triptych.models import LoraSettings, attach_adapter, save_adapter
    from triptych.models.embed import embed_texts

    for name in ("rows", "pool"):
        rows = [{**row, "kind": "odd" if i % 2 else "even"} for i, row in enumerate(project.read(f"{name}.json"))]
        (project.folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    options: list[object] = ["--shots", 2, "--pool", project.folder / "pool.json", "--select", select]
    options += ["--column", "kind"] if select == "same" else []
    if adapter:
        attached = attach_adapter(load_fake(project.model), LoraSettings(r=2), seed=5)
        with torch.no_grad():
            for parameter in attached.parameters().values():
                parameter.add_(torch.randn(parameter.shape))  # far from the base, whose vectors are meant
        save_adapter(attached, tmp_path / "a", facts={})
        options += ["--adapter", tmp_path / "a"]
    assert project.run(*options).code == 0
    written = project.read("p.record.json")["facts"]
    loaded = load_fake(project.model)
    pool, rows = (read_rows(project.folder / name, need_output=False) for name in ("pool.json", "rows.json"))
    # the base model's vectors, whatever adapter the texts are written with
    vectors = embed_texts([row.instruction for row in (*pool, *rows)], model=loaded)
    shown = Demonstrations(pool, DemosConfig(column="kind"), vectors=lambda: vectors)
    order: Order | None = "nearest-last" if select in ("bm25", "embedding", "mmr") else None
    prompts = []
    for row in rows:
        demos = shown.of_cell(CellSpec("few_shot", "default", 2, 0, "item", select, order), row).demos
        prompts.append(render_prompt(row, find_template("default"), loaded.profile, demos=demos, max_tokens=2048))
    hashed = [[p.row_id, p.ids, [257]] for p in prompts]
    assert written["prompts_sha256"] == hashlib.sha256(json.dumps(hashed).encode()).hexdigest()
    assert written["demonstrations"]["select"] == select
    assert ("seed" in written["demonstrations"]) == (select == "same")


def test_the_same_command_again_computes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import triptych.runner.one_cell as module

    first = project.run()
    before = (project.folder / "p.json").read_bytes()
    monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("it was loaded"))
    again = project.run()
    assert (again.code, first.code) == (0, 0)
    assert "these predictions are there already; --fresh writes them again" in again.out
    assert (project.folder / "p.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--max-new-tokens", 13], "generation.max_new_tokens: 12 -> 13"),
        (["--prompt", "emotional"], "prompt_sha256: sha256 "),
        (["--shots", 1, "--pool", "{}/pool.json"], "demonstrations.shots: 0 -> 1"),
        (["--limit", 3], "data.rows: 7 -> 3"),
        (["--dtype", "bfloat16"], "model.dtype: float32 -> bfloat16"),
        (["--temperature", 0.5, "--seed", 4], "generation.seed: 0 -> 4"),
        (["--beams", 2], "generation.beams: 1 -> 2"),
        (["--model", "{other}"], "model.weights_sha256: sha256 "),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_files_of_another_run_are_refused_and_the_difference_named(
    finished: bool,
    options: list[Any],
    named: str,
    project: Project,
    fake_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if finished:
        project.run()
    else:
        stop_after(2, project, monkeypatch)
    before = {name: (project.folder / name).read_bytes() for name in project.files()}
    places = {"{}/pool.json": project.folder / "pool.json", "{other}": fake_folder("llama", seed=1)}
    options = [places.get(option, option) for option in options]
    done = project.run(*options)
    assert done.code == 2
    assert named in done.err
    assert "--fresh" in done.err
    assert {name: (project.folder / name).read_bytes() for name in project.files()} == before
    assert project.run(*options, "--fresh").code == 0
    assert project.files() == {"p.json", "p.record.json"}


def stop_after(n: int, project: Project, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    """Run the command until n rows are written."""
    from triptych.generate.resume_file import PartFile

    add, rows = PartFile.add, []

    def adds(self: PartFile, row: Any) -> None:
        if len(rows) == n:
            raise KeyboardInterrupt
        rows.append(row)
        add(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(PartFile, "add", adds)
        done = project.run(*options)
    assert done.code == 1
    assert "the same command continues from there" in done.err


def test_a_file_without_a_record_is_not_replaced(project: Project) -> None:
    out = project.folder / "p.json"
    out.write_text("[]")
    done = project.run()
    assert done.code == 2
    assert "it is not one that holds predictions" in done.err
    assert out.read_text() == "[]"
    assert project.run("--fresh").code == 0
    out.write_text(out.read_text() + " ")
    done = project.run()
    assert done.code == 2
    assert "changed after they were written" in done.err


@pytest.mark.parametrize("n", [0, 1, 6])
def test_stopped_by_hand_it_goes_on(n: int, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("--batch-rows", 3)
    whole = (project.folder / "p.json").read_bytes()
    for name in project.files():
        (project.folder / name).unlink()
    stop_after(n, project, monkeypatch, "--batch-rows", 3)
    assert project.files() == ({"p.jsonl.part"} if n else set())
    done = project.run("--batch-rows", 3)
    assert done.code == 0
    assert (f"{n} of 7 rows were written before" in done.out) == (n > 0)
    assert (project.folder / "p.json").read_bytes() == whole
    assert project.files() == {"p.json", "p.record.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", 2], "--shots 2 without --pool"),
        (["--shots", 10, "--pool", "{}/pool.json"], "--shots 10, 9 rows in"),
        (["--select", "bm25"], "say how many with --shots"),
        (["--shots", 1, "--pool", "{}/pool.json", "--select", "same"], "same, without --column"),
        (["--shots", 1, "--pool", "{}/pool.json", "--select", "same", "--column", "kind"], "found: column: kind"),
        (["--shots", 1, "--pool", "{}/pool.json", "--select", "bm25", "--draw", "seed"], "found: draw: seed"),
        (["--shots", 1, "--pool", "{}/pool.json", "--max-similarity", 0], "expected: greater than 0"),
        (["--shots", 1, "--pool", "{}/pool.json", "--select", "mmr", "--embedding", "./no"], "embedding model './no'"),
        (["--prompt", "emotinal"], "did you mean `emotional`?"),
        (["--template", "no field"], "neither a readable file nor a text with {instruction}"),
        (["--adapter", "{}"], "holds no adapter"),
        (["--max-tokens", 40], "rows rows-0, rows-1,"),
        (["--max-new-tokens", 5000], "leave no room for a prompt"),
        (["--top-p", 0.5], "no effect on greedy decoding"),
        (["--data", "{}/rosw.json"], "rows.json"),
        (["--out", "{}"], "predictions.json"),
        (["--out", "{}/rows.json"], "would replace what is read: --data"),
        (["--model", "{}/none"], "there is no such model folder"),
    ],
)
def test_a_wrong_request_is_2_and_leaves_nothing(options: list[Any], message: str, project: Project) -> None:
    before = (project.folder / "rows.json").read_bytes()
    done = project.run(*(str(option).replace("{}", str(project.folder)) for option in options))
    assert done.code == 2, done.err
    assert message in done.err
    assert project.files() == set()
    assert (project.folder / "rows.json").read_bytes() == before


def test_model_and_out_are_needed(project: Project) -> None:
    for missing in ("--model", "--out"):
        command = project.command()
        at = command.index(missing)
        done = triptych(*command[:at], *command[at + 2 :])
        assert done.code == 2
        assert f"where: {missing}" in done.err


def test_an_adapter_of_another_prompt_is_said(project: Project, load_fake: Callable[..., Any], tmp_path: Path) -> None:
    from triptych.models import LoraSettings, attach_adapter, save_adapter

    adapter = attach_adapter(load_fake(project.model), LoraSettings(r=2), seed=0)
    facts = {"prompt": "default", "prompt_sha256": find_template("default").sha256}
    save_adapter(adapter, tmp_path / "adapter", facts=facts)
    done = project.run("--adapter", tmp_path / "adapter", "--limit", 2)
    assert (done.code, "warning" in done.out) == (0, False)
    done = project.run("--adapter", tmp_path / "adapter", "--prompt", "emotional", out="q.json")
    assert done.code == 0
    assert "warning: the adapter was trained with another prompt (default" in done.out
    # another adapter is another run
    save_adapter(attach_adapter(load_fake(project.model), LoraSettings(r=2), seed=1), tmp_path / "other", facts=facts)
    done = project.run("--adapter", tmp_path / "other", "--limit", 2)
    assert done.code == 2
    assert "adapter_sha256" in done.err


def test_rows_of_the_pool_that_are_predicted_are_not_shown(project: Project) -> None:
    rows = project.read("pool.json") + [{**row, "output": "x"} for row in project.read("rows.json")]
    (project.folder / "pool.json").write_text(json.dumps(rows))
    done = project.run("--shots", 10, "--pool", project.folder / "pool.json")
    assert done.code == 2
    assert "--shots 10, 9 rows in" in done.err


# --- the check


def test_the_check_reads_the_files_record(project: Project) -> None:
    assert "cut at the most new tokens" in project.run().out
    path = project.folder / "p.json"
    done = triptych("predict", "--check", path, "--data", project.folder / "rows.json")
    cut = [row["id"] for row in project.read("p.record.json")["rows"] if row["stopped_by"] == "length"]
    section = done.out[done.out.index("outputs that were cut at") :]
    assert f"odd    {len(cut)} " in section
    assert re.findall(r"rows-\d", section) == cut
    good = [{**entry, "output": f"春眠不覺曉{i}"} for i, entry in enumerate(project.read("p.json"))]
    path.write_text(json.dumps(good))
    done = triptych("predict", "--check", path, "--data", project.folder / "rows.json")
    assert done.code == 0
    assert f"{path}: 7 predictions, passes" in done.out
    assert "cut at" not in done.out, "the texts were changed since"
    good[2]["output"] = "春眠 USER: 再"  # the record names the prompt
    path.write_text(json.dumps(good[1:]))
    done = triptych("predict", "--check", path, "--data", project.folder / "rows.json")
    assert done.code == 1
    assert f"{path}: 6 predictions, fails" in done.out
    assert "rows-0" in done.out
    assert "rows-2" in done.out
    (project.folder / "p.record.json").unlink()
    path.write_text(json.dumps(good))
    assert triptych("predict", "--check", path, "--data", project.folder / "rows.json").code == 0
    done = triptych("predict", "--check", path, "--data", project.folder / "rows.json", "--limit", 6)
    assert done.code == 1
    assert "rows-6" in done.out


def test_special_tokens_of_an_unusual_kind_are_found(project: Project, tmp_path: Path) -> None:
    """A tokenizer may call its tokens anything: they are looked for when texts are written, and by a later check."""
    model = tmp_path / "unusual"
    shutil.copytree(project.model, model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (model / name).read_text(encoding="utf-8")
        (model / name).write_text(text.replace("<pad>", "⟦pad⟧"), encoding="utf-8")
    assert project.run("--model", model).code == 0
    assert "⟦pad⟧" in project.read("p.record.json")["provenance"]["special_texts"]
    path = project.folder / "p.json"
    texts = [{**entry, "output": f"春眠不覺曉{i}"} for i, entry in enumerate(project.read("p.json"))]
    for output, code in (("春眠⟦pad⟧", 1), ("春眠pad", 0)):
        path.write_text(json.dumps([{**texts[0], "output": output}, *texts[1:]]))
        done = triptych("predict", "--check", path, "--data", project.folder / "rows.json")
        assert done.code == code
        assert ("outputs with special tokens" in done.out) == bool(code)


def test_a_check_of_what_is_no_file_of_predictions(project: Project) -> None:
    for name in ("none.json", "rows.json"):
        done = triptych("predict", "--check", project.folder / name, "--data", project.folder / "rows.json")
        assert done.code == 2
        assert name in done.err


# --- killed


@pytest.fixture
def commands() -> Iterator[Commands]:
    made = Commands()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(8,), (3, 12, 21)], ids=["once", "again"])
def test_killed_again_and_again_it_ends_with_the_file_of_an_undisturbed_run(
    project: Project, commands: Commands, tmp_path: Path, kills: tuple[int, ...]
) -> None:
    text = json.dumps(rows_of(40, "rows", outputs=False), ensure_ascii=False)
    (project.folder / "rows.json").write_text(text, encoding="utf-8")
    bf16 = ["--dtype", "bfloat16", "--batch-rows", 5, "--max-new-tokens", 60]  # where rounding would show
    assert project.run(*bf16, out="whole.json").code == 0

    said = tmp_path / "said.txt"

    def start() -> int:
        return commands.start(*project.command(*bf16), said=said)

    part, counts = project.folder / "p.jsonl.part", []
    for n in kills:
        pid = start()
        end = time.monotonic() + 60
        while not part.exists() or part.read_bytes().count(b"\n") <= n:
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        assert commands.wait(pid) == -signal.SIGKILL, "it was done before it was killed"
        assert not (project.folder / "p.json").exists()
        counts.append(part.read_bytes().count(b"\n") - 1)
    assert counts == sorted(set(counts))
    assert commands.wait(start()) == 0, said.read_text()
    assert f"{counts[-1]} of 40 rows were written before" in said.read_text()
    assert (project.folder / "p.json").read_bytes() == (project.folder / "whole.json").read_bytes()
    whole, killed = project.read("whole.record.json"), project.read("p.record.json")
    assert killed["rows"] == whole["rows"]
    assert not part.exists()
