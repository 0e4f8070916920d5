"""Exit codes: 0 done, 2 the input is wrong, 1 anything else. Errors are on stderr, tracebacks only if asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import triptych as package

Triptych = Callable[..., Any]
TRIPTYCH = Path(sys.executable).with_name("triptych")


def test_version(triptych: Triptych) -> None:
    done = triptych("--version")
    assert (done.code, done.out, done.err) == (0, f"triptych {package.__version__}\n", "")


def test_help_names_every_command(triptych: Triptych) -> None:
    done = triptych("--help")
    assert done.code == 0
    for command in ("run", "score", "tune", "report"):
        assert command in done.out
        assert triptych(command, "--help").code == 0


def test_the_installed_command() -> None:
    done = subprocess.run([TRIPTYCH, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"triptych {package.__version__}\n", "")


def test_python_m_triptych_and_a_home_folder(tmp_path: Path) -> None:
    rows = '{"instruction": "a", "output": "x"}'
    (tmp_path / "d.jsonl").write_text(rows)
    (tmp_path / "e.jsonl").write_text(rows)
    command = [sys.executable, "-m", "triptych", "data", "check", "--json", "~/d.jsonl", "~/e.jsonl"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "d.jsonl") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: triptych"),
        (["scroe"], "No such command 'scroe'"),
        (["score"], "Missing option"),
        (["run"], "Missing argument"),
        (["--colour"], "No such option"),
        (["score", "--modle", "x"], "--modle"),
        (["score", "--model", "x", "--data", "y", "--out", "z", "--quantize", "q4"], "'nf4', 'int8', 'none'"),
        (["score", "--model", "x", "--data", "y", "--out", "z", "--limit", "0"], "--limit"),
        (["score", "--model", "x", "--data", "y", "--out", "z", "--shots", "many"], "--shots"),
    ],
)
def test_a_wrong_command_line_is_2_and_says_how_it_goes(arguments: list[str], message: str, triptych: Triptych) -> None:
    done = triptych(*arguments)
    assert done.code == 2
    assert message in done.err
    assert "Usage: triptych" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_wrong_input_is_2_on_stderr_without_traceback(triptych: Triptych, tmp_path: Path) -> None:
    done = triptych("run", tmp_path / "none.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: there is no such configuration file\n  where: ")
    assert "Traceback" not in done.err


def test_with_debug_there_is_a_traceback_and_the_same_code(triptych: Triptych, tmp_path: Path) -> None:
    done = triptych("--debug", "run", tmp_path / "none.yaml")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert "error: there is no such configuration file" in done.err
    assert "Traceback" not in triptych("run", tmp_path / "none.yaml").err  # and the next time there is none


def test_what_nobody_thought_of_is_1(triptych: Triptych, monkeypatch: pytest.MonkeyPatch, project: Any) -> None:
    from triptych.runner import run as runner

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a cosmic ray")

    monkeypatch.setattr(runner, "run_experiment", broken)
    done = triptych("run", project.config)
    assert done.code == 1
    assert done.err.startswith("error: RuntimeError: a cosmic ray\n")
    assert "--debug" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in triptych("--debug", "run", project.config).err


def test_a_run_that_fails_names_its_log(triptych: Triptych, monkeypatch: pytest.MonkeyPatch, project: Any) -> None:
    from triptych.runner import tasks

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a cosmic ray")

    monkeypatch.setattr(tasks, "score_cell", broken)
    out = project.folder / "struck"
    done = triptych("run", project.config, "--out", out)
    assert done.code == 1
    assert done.err.splitlines()[-1] == f"  the traceback is in {out / 'run.log'}"
    assert "RuntimeError: a cosmic ray" in (out / "run.log").read_text(encoding="utf-8")


def test_ctrl_c_is_1_and_says_what_is_saved(triptych: Triptych, monkeypatch: pytest.MonkeyPatch, project: Any) -> None:
    from triptych.runner import run as runner

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_experiment", interrupted)
    done = triptych("run", project.config)
    assert done.code == 1
    assert "the same command continues" in done.err


def test_messages_with_brackets_come_through(triptych: Triptych, project: Any) -> None:
    """Rich would take [a] for markup."""
    done = triptych("run", project.config, "--set", "tune.betas=[bold]")
    assert done.code == 2
    assert "--set tune.betas=[bold]" in done.err


@pytest.mark.slow
def test_no_colours_and_no_bars_into_a_file(project: Any) -> None:
    environment = {**os.environ, "COLUMNS": "40", "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    environment.pop("FORCE_COLOR", None)
    out = project.folder / "scores.json"
    arguments = ["score", *project.given(), "--data", project.test, "--limit", "2", "--out", out]
    done = subprocess.run([TRIPTYCH, *arguments], capture_output=True, text=True, env=environment, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr == ""
    [line, where] = done.stdout.splitlines()  # lines are not broken: scripts read them
    assert line.startswith("ppl_mean ")
    assert line.endswith(")")
    assert where == f"scores: {out}"


@pytest.mark.parametrize(
    ("words", "found"), [("triptych re", ["report", "reproduce"]), ("triptych run --fr", ["--fresh"])]
)
def test_the_shell_completes_commands_and_options(words: str, found: list[str]) -> None:
    environment = {**os.environ, "_TRIPTYCH_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    done = subprocess.run([TRIPTYCH], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == found
    assert done.stderr == ""


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [TRIPTYCH, "--install-completion", "bash"], capture_output=True, text=True, env=environment, check=True
    )
    assert "completion installed" in done.stdout
    script = tmp_path / ".bash_completions" / "triptych.sh"
    assert "_TRIPTYCH_COMPLETE=complete_bash" in script.read_text(encoding="utf-8")
