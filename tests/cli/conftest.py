"""The command line as a user meets it: arguments in, exit code, stdout and stderr out."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tiny_experiment import settings, write_rows


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Project(NamedTuple):
    """A folder with what commands need."""

    folder: Path
    model: Path
    train: Path
    test: Path
    config: Path

    def given(self) -> list[str]:
        """The options that name the model and hold it plainly."""
        return ["--model", str(self.model), "--quantize", "none", "--dtype", "float32", "--threads", "1"]


Triptych = Callable[..., Done]


def write_project(folder: Path, model: Path) -> Project:
    """Data, and a configuration with every strategy: 9 cells, 8 steps."""
    write_rows(folder)
    config = settings(model, data=".")
    (folder / "exp.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return Project(folder, model, folder / "train.json", folder / "test.json", folder / "exp.yaml")


def in_process(*arguments: object) -> Done:
    """Run `triptych ARGUMENTS` in this process, with its output in files and not on a terminal."""
    from triptych.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["triptych", *map(str, arguments)])
        try:
            main()
        except SystemExit as error:
            assert isinstance(error.code, int)
            return Done(error.code, out.getvalue(), err.getvalue())
    raise AssertionError("main() returned instead of exiting")


@pytest.fixture(scope="session")
def triptych() -> Triptych:
    """`triptych("score", "--model", ...)`: how the command ended."""
    return in_process


@pytest.fixture
def project(tmp_path: Path, fake_folder: Callable[..., Path]) -> Project:
    return write_project(tmp_path / "project", fake_folder("llama"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, fake_folder: Callable[..., Path]) -> tuple[Project, Path, Done]:
    """A project, the folder of its finished run, and what was printed. Don't change them."""
    project = write_project(tmp_path_factory.mktemp("finished"), fake_folder("llama"))
    done = in_process("run", project.config, "--out", project.folder / "run")
    assert done.code == 0, done.err
    return project, project.folder / "run", done
