"""The command line as a user meets it: arguments in, exit code, stdout and stderr out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

PIECES = ["春眠", "不覺曉", "處處", "聞啼鳥", "夜來", "風雨", "花落", "知多少"]


DROPPED = {
    *("seconds", "at", "command", "path", "name", "threads_reason", "git"),
    *("peak_memory_bytes", "rows_cached"),
}


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


def made(name: str, n: int, offset: int) -> list[dict[str, str]]:
    return [
        {
            "id": f"{name}-{i}",
            "instruction": f"翻譯 {offset + i}：" + "".join(PIECES[(i + j) % 8] for j in range(1 + i % 3)),
            "output": "".join(PIECES[(3 * i + j) % 8] for j in range(1 + i % 4)),
        }
        for i in range(n)
    ]


def write_project(folder: Path, model: Path) -> Project:
    """Data, and a configuration with every strategy: 9 cells, 8 steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, n, offset in (("train", 14, 0), ("test", 6, 1000)):
        text = json.dumps(made(name, n, offset), ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    config = {
        "name": "tiny",
        "cache": False,  # what two runs agree on must not come from one computation
        "model": {"name": str(model), "quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1},
        "data": {"dir": "."},
        "strategies": {
            "zero_shot": {"prompts": ["default", "emotional"]},
            "few_shot": {"k": [1, 2, 3], "seeds": [0, 1]},
            "qlora": {},
        },
        "tune": {"r": 2, "epochs": 2, "batch_size": 4, "eval_every": 4, "lr": 0.01},
    }
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


def numbers(folder: Path) -> dict[str, Any]:
    """`results.json` without what a second run may not repeat: times, and where and when it ran."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in DROPPED}
        return [plain(item) for item in value] if isinstance(value, list) else value

    result: dict[str, Any] = plain(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    for section in ("data", "model"):
        result["provenance"]["config"][section].pop("dir", None)
    return result


@pytest.fixture(scope="session", name="numbers")
def _numbers() -> Callable[[Path], dict[str, Any]]:
    return numbers
