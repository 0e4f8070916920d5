"""Every command and snippet in README and docs is run, in the page's order, as a reader would, only smaller.

A tiny random model stands in for `demo` and for hub ids, few short rows for the sample. What can't be run
(make, pip, torchrun, other programs, places to be filled in) is checked: the target, the extra, the option is there.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_pages import ROOT, Block, Step, blocks, check_step, inline_commands, is_run, name_of, pages, steps

from triptych.config.read import read_config

STANDS_FOR = ("demo", "Qwen/Qwen3-0.6B")
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CHAT += "{% if add_generation_prompt %}assistant: {% endif %}"
N_TRAIN, N_TEST = 14, 4
LABELS = ("refund", "return", "cancel", "track", "login")
SMALL = """
name: mine
model: {name: demo, threads: 1}
data: {train: train.jsonl, test: test.jsonl}
strategies:
  zero_shot: {prompts: [default]}
  few_shot: {k: [1], seeds: [0]}
  qlora: {}
tune: {r: 2, epochs: 1}
"""
ALL = [page for page in pages() if blocks(name_of(page), page.read_text(encoding="utf-8"))]
RUN = [page for page in ALL if is_run(page)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few short rows, in every format that a page names."""
    folder = tmp_path_factory.mktemp("sample")
    for name, n in (("train", N_TRAIN), ("test", N_TEST)):
        rows = [{"id": f"{name}-{i}", "instruction": f"message {name} {i}", "output": LABELS[i % 5]} for i in range(n)]
        (folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        pairs = "".join(f'"{row["instruction"]}","{row["output"]}"\n' for row in rows)
        file = "pairs.csv" if name == "train" else "pairs-test.csv"
        (folder / file).write_text("question,answer\n" + pairs, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def stand_ins(sample: Path, fake_folder: Callable[..., Path]) -> Iterator[None]:
    """The tiny model and the few rows, where names are turned into files; the processor is not timed."""
    import triptych.data.dataset
    import triptych.doctor.device
    import triptych.models.load
    import triptych.models.source
    import triptych.plan.memory
    import triptych.plan.time

    find, model = triptych.models.source._find, fake_folder("llama")
    chat = Path(shutil.copytree(model, sample.parent / "chat-model"))
    (chat / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    found = {**dict.fromkeys(STANDS_FOR, model), "demo-chat": chat}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triptych.models.source, "_find", lambda name: found[name] if name in found else find(name))
        for module in (triptych.models.load, triptych.plan.memory):
            patch.setattr(module, "choose_threads", lambda *_: (1, "a tiny model"))
        for module in (triptych.doctor.device, triptych.plan.time):
            patch.setattr(module, "matmul_rate", lambda *_, **__: 5e10)
        patch.setattr(triptych.data.dataset, "sample_folder", lambda _: sample)
        yield


@pytest.fixture(scope="module")
def demo_run(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` leaves, small."""
    folder = tmp_path_factory.mktemp("demo")
    config = yaml.safe_load(SMALL) | {"name": "demo", "data": {"dir": "sample"}}
    (folder / "demo.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        code, said = in_process(["run", "demo.yaml", "--out", "runs/demo"])
    assert code == 0, said
    return folder / "runs" / "demo"


@pytest.fixture
def reader(tmp_path: Path, sample: Path, demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of any page has it: data, an experiment, the examples, the demo's run."""
    for file in sample.iterdir():
        shutil.copy(file, tmp_path)
    shutil.copytree(sample, tmp_path / "data")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copytree(demo_run, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_process(arguments: list[str]) -> tuple[int, str]:
    """`triptych ARGUMENTS`: its exit code and all that it said."""
    from triptych.cli.main import main

    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", ["triptych", *arguments])
        try:
            main()
        except SystemExit as error:
            return int(error.code or 0), said.getvalue()
    raise AssertionError("main() returned instead of exiting")


def follow(page: str, text: str, folder: Path) -> int:
    """Do all that a page says; how many commands and snippets were run."""
    if not any(made in text for made in ("# experiment.yaml\n", "--out experiment.yaml")):
        (folder / "experiment.yaml").write_text(SMALL)
    names: dict[str, Any] = {"__name__": page}
    count = 0
    for block in blocks(page, text):
        if block.language == "yaml":
            write_config(block, folder)
        elif block.language == "python":
            run_python(block, names)
            count += 1
        elif block.language == "sh":
            count += sum(run_step(step) for step in steps(block))
        else:
            assert block.language == "text", f"{block.where()}: nobody knows how to check `{block.language}`"
    return count


def write_config(block: Block, folder: Path) -> None:
    """A configuration is read as it stands; one with a name on its first line is written, made small."""
    name = block.text.splitlines()[0].removeprefix("# ").strip()
    value = yaml.safe_load(block.text)
    if name.endswith(".yml"):  # another tool's
        (folder / name).write_text(block.text, encoding="utf-8")
        return
    path = folder / (name if name.endswith(".yaml") and " " not in name else "fragment.yaml")
    path.write_text(block.text, encoding="utf-8")
    try:
        read_config(path)
    except Exception as error:
        raise AssertionError(f"{block.where()}: {error}") from error
    tune = {"r": 2, **(value.get("tune") or {})}
    if tune.get("eval_every"):
        tune["eval_every"] = 1
    path.write_text(yaml.safe_dump({**value, "tune": tune}, allow_unicode=True), encoding="utf-8")


def run_python(block: Block, names: dict[str, Any]) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.text, block.where(), "exec"), names)
    except Exception as error:
        raise AssertionError(f"{block.where()}: {type(error).__name__}: {error}") from error


def run_step(step: Step) -> bool:
    if not check_step(step):
        return False
    with pytest.MonkeyPatch.context() as patch:
        for name, value in step.env.items():
            patch.setenv(name, value)
        code, said = in_process(step.words[1:])
    assert code == 0, f"{step.where()}: exit code {code}\n{said}"
    return True


FIRST_PAGES = ("README.md", "docs/tutorial.md", "docs/how-to/own-data.md", "docs/how-to/own-prompt.md")
"""Followed by `make test`; the other pages by `make test-slow`."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if name_of(page) in FIRST_PAGES else [pytest.mark.slow]) for page in RUN],
    ids=name_of,
)
def test_what_a_page_says_works(page: Path, reader: Path) -> None:
    follow(name_of(page), page.read_text(encoding="utf-8"), reader)
    assert not list(reader.rglob("*.tmp"))


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [step for block in blocks(name_of(page), text) if block.language == "sh" for step in steps(block)]
    for step in (*named, *inline_commands(name_of(page), text)):
        check_step(step)


def test_the_studys_commands_name_settings_that_are_there() -> None:
    """They have a placeholder, so they are not run: their files and `--set` are read."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [step.words for block in blocks("README.md", text) if block.language == "sh" for step in steps(block)]
    found = [words for words in lines if len(words) > 2 and words[2].startswith("examples/hw3/")]
    assert len(found) == 3
    for words in found:
        sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        assert read_config(ROOT / words[2], sets).data.dir == "FOLDER"


BROKEN = {
    "an option that is not there": ("sh", "triptych run experiment.yaml --nonsense", "there is no option `--nonsense`"),
    "an option of another command": ("sh", "triptych report runs/demo --set a=1", "there is no option `--set`"),
    "a command that is not there": ("sh", "triptych fly experiment.yaml", "there is no command `fly`"),
    "a command below one": ("sh", "triptych data fly x", "there is no command `fly`"),
    "a make target that is not there": ("sh", "make nonsense", "there is no `make nonsense`"),
    "an extra that is not there": ("sh", "pip install 'triptych[nonsense]'", "there is no extra `nonsense`"),
    "another package": ("sh", "pip install leftpad", "is not ours to install"),
    "an option behind torchrun": (
        "sh",
        "torchrun --no-python triptych run a.yaml --fast",
        "there is no option `--fast`",
    ),
    "a program": ("sh", "rm -rf x", "no one knows how to check `rm`"),
    "a key": ("yaml", "# experiment.yaml\ntune: {epocs: 1}", "did you mean `epochs`"),
    "a file that is not there": ("sh", "triptych plan nowhere.yaml", "exit code 2"),
    "Python": ("python", "import triptych\ntriptych.load_runs('runs/demo')", "has no attribute 'load_runs'"),
    "a language": ("perl", "1", "nobody knows how to check `perl`"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_page_that_is_wrong_is_found_out(what: str, reader: Path) -> None:
    language, text, complaint = BROKEN[what]
    with pytest.raises(AssertionError) as error:
        follow("made-up.md", f"# A page\n\n```{language}\n{text}\n```\n", reader)
    assert complaint in str(error.value)
    assert str(error.value).startswith("made-up.md, line 3")


def test_most_of_what_is_written_is_run(reader: Path) -> None:
    """So that a change of how blocks are found can't turn the tests above into nothing."""
    every = [
        step
        for page in RUN
        for block in blocks(name_of(page), page.read_text(encoding="utf-8"))
        if block.language == "sh"
        for step in steps(block)
    ]
    ran = [step for step in every if check_step(step)]
    assert len(ran) > 40
    assert len(ran) > 0.7 * len(every)
    assert {step.words[1] for step in ran} >= {
        "run",
        "score",
        "tune",
        "report",
        "plan",
        "preview",
        "doctor",
        "predict",
        "reproduce",
        "config",
        "data",
        "prompts",
    }
