"""A name that can't be a path (too long for the file system, a NUL in it) is an input error at every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Triptych = Callable[..., Any]
NAMES = [
    pytest.param("1" * 400, id="long"),
    pytest.param("a\0b", id="nul"),
    pytest.param("~nobody-of-this-name/x", id="nobody", marks=pytest.mark.slow),
    pytest.param("x" * 300 + "/model.gguf", id="gguf", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_refuses_it_as_input(name: str, triptych: Triptych, project: Any) -> None:
    for line in _lines(name, project):
        done = triptych(*line)
        assert (done.code, "Traceback" in done.err) == (2, False), f"{line[:2]}: {done.err[-300:]}"


def _lines(name: str, project: Any) -> Iterator[tuple[object, ...]]:
    model, test, out = ("--model", project.model), ("--data", project.test), ("--out", project.folder / "out.json")
    for command in ("score", "predict"):
        yield command, "--model", name, *test, *out
        yield command, *model, "--data", name, *out
        yield command, *model, *test, "--pool", name, "--shots", "1", *out
        yield command, *model, *test, "--template", name, *out
        yield command, *model, *test, "--adapter", name, *out
    yield "tune", "--model", name, "--data", project.train, "--test", project.test, "--out", project.folder / "t"
    yield "tune", "--model", project.model, "--data", name, "--test", project.test, "--out", project.folder / "t"
    if "~" not in name:  # which is a folder's name as good as another
        yield "score", *model, *test, "--out", f"{name}/{name}"
        yield "predict", *model, *test, "--out", f"{name}/{name}"
        yield "run", project.config, "--out", f"{name}/{name}"
        yield "config", "init", "--train", "sample", "--out", f"{name}/{name}"
    for command in ("run", "plan", "preview"):
        yield command, name
        for key in ("model.name", "data.test", "data.train", "data.dir", "prompts.own"):
            extra = ("--set", "strategies={zero_shot: {prompts: [own]}}") if key == "prompts.own" else ()
            yield command, project.config, "--set", f"{key}={_quoted(name)}", *extra
    yield "preview", project.config, "--adapter", name
    yield "data", "check", name
    yield "data", "check", project.test, name
    yield "report", name
    yield "reproduce", name
    yield "prompts", "show", name


def _quoted(name: str) -> str:
    escaped = name.replace("\0", "\\0")
    return f'"{escaped}"'
