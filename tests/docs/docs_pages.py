"""Pages as a reader meets them: their blocks, and what can be said of each without running it."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from triptych.config.bundled import BUNDLED

ROOT = Path(__file__).parents[2]
PARSED_ONLY = ("results", "decisions")
"""Folders of docs/ whose commands were run once, to make the numbers there."""
PLACEHOLDERS = {"FOLDER", "../shared/hw3"}
"""What a reader puts something else for: commands with these are checked, not run."""
OF_TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


class Block(NamedTuple):
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    def where(self) -> str:
        return f"{self.page}, line {self.line}"


class Step(NamedTuple):
    """One command line of a block."""

    block: Block
    line: str
    env: dict[str, str]
    words: list[str]

    def where(self) -> str:
        return f"{self.block.where()}: {self.line}"


def pages() -> list[Path]:
    """README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def is_run(page: Path) -> bool:
    return not any(part in PARSED_ONLY for part in page.relative_to(ROOT).parts[:-1]) and page.name != "experiments.md"


def blocks(page: str, text: str) -> list[Block]:
    """All fenced blocks with a language. A fence that says nothing of its language is a drawing."""
    found = []
    for match in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def inline_commands(page: str, text: str) -> Iterator[Step]:
    """Commands named in a sentence, `triptych doctor` for one."""
    for match in re.finditer(r"`(triptych [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield from steps(Block(page, 0, "sh", match[1].replace("…", "") + "\n"))


def steps(block: Block) -> Iterator[Step]:
    """The command lines of a block, comments off, continued lines joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        env = {}
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, env[name] = words.pop(0).partition("=")
        if words:
            yield Step(block, line.strip(), env, words)


def check_step(step: Step) -> bool:
    """Whether the command can be run here, after seeing that everything it names is there.

    Raises:
        AssertionError: it names a command, option, make target, extra or program that there is not.
    """
    program, *rest = step.words
    if program == "triptych":
        _check_triptych(step, rest)
        return not PLACEHOLDERS & set(re.split(r"[\s=]", " ".join(rest)))
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for word in rest:
            assert "=" in word or word in targets, f"{step.where()}: there is no `make {word}`"
        return False
    if program == "pip":
        _check_pip(step, rest)
        return False
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        given = get_args_parser().parse_args(rest)
        assert given.training_script == "triptych", step.where()
        _check_triptych(step, given.training_script_args)
        return False
    assert program in OF_TRACKERS, f"{step.where()}: no one knows how to check `{program}`"
    return False


def _check_triptych(step: Step, words: list[str]) -> None:
    import typer.main

    from triptych.cli.main import app

    command: Any = typer.main.get_command(app)
    options = _options(command)
    for number, word in enumerate(words):
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            options |= _options(command)
        elif hasattr(command, "commands") and not word.startswith("-"):
            raise AssertionError(f"{step.where()}: there is no command `{word}`")
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            assert word.partition("=")[0] in options, f"{step.where()}: there is no option `{word}`"
        if word == "--set" and number + 1 < len(words):
            assert "=" in words[number + 1], f"{step.where()}: `--set` needs KEY=VALUE"


def _options(command: Any) -> set[str]:
    given = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    return given | {"--help"}


def _check_pip(step: Step, words: list[str]) -> None:
    assert words[:1] == ["install"], step.where()
    if shlex.join(["pip", *words]) in [model.install for model in BUNDLED.values()]:
        return
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[1:]:
        found = re.fullmatch(r"triptych(?:\[([\w,]+)\])?", word)
        assert found, f"{step.where()}: `{word}` is not ours to install"
        for extra in (found[1] or "").split(",") if found[1] else ():
            assert extra in extras, f"{step.where()}: there is no extra `{extra}`"
