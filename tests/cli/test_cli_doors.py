"""One set of checks at every door: `score`, `predict`, `tune` and `run`, on the command line and in Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Triptych = Callable[..., Any]

DOORS = ["score", "predict", "tune", "run"]
HELD = {"quantize": "none", "dtype": "float32", "threads": 1}
CUTS = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'][:2] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


class Door:
    """One command over the same rows with the same template."""

    def __init__(self, triptych: Triptych, project: Any, name: str) -> None:
        self.triptych, self.project, self.name = triptych, project, name

    def __call__(self, template: Path, model: Path | None = None, *, new: int = 2) -> Any:
        project = self.project
        given = ["--model", model or project.model, "--quantize", "none", "--dtype", "float32", "--threads", 1]
        out = project.folder / "out"
        if self.name == "score":
            options: list[object] = ["--data", project.test, "--template", template, "--no-cache"]
        elif self.name == "predict":
            options = ["--data", project.test, "--template", template, "--max-new-tokens", new]
        elif self.name == "tune":
            options = ["--data", project.train, "--test", project.test, "--max-steps", 1]  # with a prompt that ships
        else:
            changes = [f"model.name={model or project.model}", f"prompts.own={template}", "strategies.few_shot=null"]
            changes += ["strategies.zero_shot={prompts: [own]}", "strategies.qlora=null"]
            return self.triptych("run", project.config, "--out", out, *(x for c in changes for x in ("--set", c)))
        return self.triptych(self.name, *given, *options, "--out", out)


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out figures and Markdown, which are most of a tiny run's time."""
    from triptych.records.store import read_run
    from triptych.runner import live, results

    monkeypatch.setattr(results, "build_report", lambda folder, *_, **__: read_run(folder))
    monkeypatch.setattr(live, "build_so_far", lambda *_: None)


@pytest.fixture(params=DOORS)
def door(request: Any, triptych: Triptych, project: Any) -> Door:
    return Door(triptych, project, request.param)


def template(project: Any, text: str, **keys: Any) -> Path:
    path: Path = project.folder / "own.yaml"
    path.write_text(json.dumps({"zero_shot": text, **keys}), encoding="utf-8")
    return path


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    made = [{"id": f"{path.stem}-{i}", "instruction": a, "output": b} for i, (a, b) in enumerate(rows)]
    path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


def chat_model(fake: Path, folder: Path, chat_template: str) -> Path:
    shutil.copytree(fake, folder)
    (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return folder


@pytest.mark.parametrize("door", ["score", "predict", "run"], indirect=True)  # `tune` takes no template
def test_a_template_that_spells_bos_is_refused(door: Door) -> None:
    done = door(template(door.project, "<bos>翻譯：{instruction}\n"))
    assert done.code == 2, done.out
    assert "one BOS, at the start" in done.err
    assert "take <bos> out of the template" in done.err
    assert not (door.project.folder / "out" / "results.json").exists()
    assert not (door.project.folder / "out").is_file()


@pytest.mark.parametrize("door", ["score", "run"], indirect=True)  # `predict` scores no answer
def test_a_chat_template_that_cuts_answers_is_refused_and_named(
    door: Door, fake_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = chat_model(fake_folder("llama"), tmp_path / "cuts", CUTS)
    done = door(template(door.project, "翻譯：{instruction}", style="chat"), model)
    assert done.code == 2, done.out
    assert "the model's chat template does not leave the whole output" in done.err
    assert "correct chat_template" in done.err
    assert "report it" not in done.err


def test_control_tokens_in_the_data_are_said_once(door: Door) -> None:
    write_rows(door.project.test, [("問 <eos> 題", "答"), ("問", "答二")])
    write_rows(door.project.train, [("甲", "乙"), ("丙", "丁 <pad>")])
    done = door(template(door.project, "翻譯：{instruction}\n"))
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert said.count("no text of a special token in the data") == 1
    assert "<eos> in 1 row test-0, where it became the special token 257" in said
    assert ("<pad>" in done.out) == (door.name == "tune")


def test_control_tokens_of_demonstrations_are_said(triptych: Triptych, project: Any) -> None:
    write_rows(project.train, [("甲", "乙<eos>")])
    options = ["--data", project.test, "--pool", project.train, "--shots", 1, "--limit", 1, "--no-cache"]
    done = triptych("score", *project.given(), *options, "--out", project.folder / "s.json")
    assert done.code == 0, done.err
    assert "<eos> in 1 row train-0" in done.out


@pytest.mark.parametrize("door", ["score", "run"], indirect=True)
def test_outputs_of_unknown_tokens_are_said(door: Door, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = shutil.copytree(fake_folder("llama"), tmp_path / "unknown")
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "</s>": 3, "<s>": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    write_rows(door.project.test, [("a", "字字"), ("ab", "b")])
    done = door(template(door.project, "a{instruction}"), folder)
    assert done.code == 0, done.err
    assert done.out.count("no unknown tokens: 2 in 1 row: 1 row test-0") == 1


# --- the same in Python


@pytest.mark.parametrize("name", ["score", "predict"])
def test_python_calls_ask_the_same_checks(name: str, project: Any) -> None:
    import triptych as api
    from triptych.errors import ConfigError

    own = template(project, "<bos>翻譯：{instruction}\n")
    with pytest.raises(ConfigError, match="one BOS, at the start"):
        getattr(api, name)(project.model, str(project.test), template=str(own), **HELD)


# --- rows that are too long: what can be raised is named only where raising it helps


def shorter_context(fake: Path, folder: Path, tokens: int) -> Path:
    shutil.copytree(fake, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": tokens}))
    return folder


@pytest.mark.parametrize("door", ["score", "predict", "run"], indirect=True)
def test_at_the_models_own_limit_nothing_is_to_be_raised(
    door: Door, fake_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = shorter_context(fake_folder("llama"), tmp_path / "short", 60)
    write_rows(door.project.test, [("問", "答"), ("長" * 100, "答")])
    done = door(template(door.project, "翻譯：{instruction}\n"), model)
    assert done.code == 2, done.out
    assert "longer than 60 tokens even without demonstrations: 1 row test-1" in done.err
    assert "raise" not in done.err
    assert "a longer context than 60 tokens" in done.err


@pytest.mark.parametrize("door", ["score", "predict", "run"], indirect=True)
def test_below_it_the_commands_own_setting_is_named(door: Door) -> None:
    write_rows(door.project.test, [("問", "答"), ("長" * 800, "答")])
    done = door(template(door.project, "翻譯：{instruction}\n"))
    assert done.code == 2, done.out
    setting = "max_tokens" if door.name == "run" else "--max-tokens"
    assert f"raise {setting} (the model takes up to 4,096)" in done.err
