"""The command line and Python offer the same: each option of a command is a parameter of its call, and conversely."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

import triptych as package
from triptych.cli.main import app
from triptych.config.experiment import ExperimentConfig

Triptych = Callable[..., Any]


def options_of(command: str) -> dict[str, Any]:
    """Name -> click's parameter, without `--help`."""
    top: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in top.commands[command].params if parameter.name != "help"}


def parameters_of(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Name -> parameter; who watches is a terminal's business in one case and the caller's in the other."""
    return {name: one for name, one in inspect.signature(call).parameters.items() if name != "reporter"}


@pytest.mark.parametrize(("command", "alone"), [("score", set()), ("predict", {"check"})])
def test_score_and_predict_have_the_options_of_their_calls(command: str, alone: set[str]) -> None:
    options, parameters = options_of(command), parameters_of(getattr(package, command))
    assert options.keys() - alone == parameters.keys()
    for name, parameter in parameters.items():
        if not options[name].required and name not in ("model", "data"):
            default = options[name].default
            assert (default or None) == (parameter.default or None), name


def test_tune_has_the_options_of_its_call() -> None:
    section: Any = ExperimentConfig.model_fields["tune"].annotation
    parameters = parameters_of(package.tune).keys() - {"settings"}
    assert options_of("tune").keys() == parameters | section.model_fields.keys()


def test_run_has_the_options_of_its_call() -> None:
    assert options_of("run").keys() - {"sets"} == parameters_of(package.run).keys() - {"overrides"}


@pytest.mark.parametrize("command", ["score", "predict"])
def test_how_a_model_is_loaded_can_be_said_on_both_sides(
    command: str, triptych: Triptych, project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import triptych.runner.one_cell as module

    seen: list[Any] = []

    def load(spec: Any) -> Any:
        seen.append(spec)
        raise ValueError("enough")

    monkeypatch.setattr(module, "load_model", load)
    options = ["--revision", "v1", "--no-double-quant", "--hold", "packed", "--threads", 1]
    given = ["--model", project.model, "--data", project.test, "--out", tmp_path / "out.json"]
    assert triptych(command, *given, *options).code == 1
    with pytest.raises(ValueError, match="enough"):
        getattr(package, command)(
            project.model, project.test, revision="v1", double_quant=False, hold="packed", threads=1
        )
    assert seen[0] == seen[1]
    assert (seen[0].revision, seen[0].double_quant, seen[0].hold) == ("v1", False, "packed")
