"""Advice that the command can follow: settings by the option it has, or where else they are set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import triptych as package
from triptych.api.advice import message_for
from triptych.cli.main import _options_by_command
from triptych.config.yaml_file import load_yaml
from triptych.data.hub import _hub_errors
from triptych.errors import ConfigError, DataError, InputError

Triptych = Callable[..., Any]


@pytest.mark.parametrize("command", ["score", "predict", "tune", "data", "run"])
def test_columns_are_named_where_they_can_be(command: str, triptych: Triptych, project: Any) -> None:
    rows = [{"id": str(i), "left": "a", "right": "b"} for i in range(3)]
    for name in (project.train, project.test):
        name.write_text(json.dumps(rows), encoding="utf-8")
    given = [*project.given(), "--data", project.test, "--out", project.folder / "out"]
    asked = {
        "score": ["score", *given],
        "predict": ["predict", *given],
        "tune": ["tune", *given, "--test", project.test],
        "data": ["data", "check", project.test],
        "run": ["run", project.config, "--out", project.folder / "out"],
    }[command]
    done = triptych(*asked)
    assert done.code == 2
    assert "columns:" in done.err
    if command == "run":
        assert "for `triptych run`" not in done.err
    elif command == "data":
        assert "for `triptych data`: `data.columns` is --column" in done.err
    else:
        assert f"for `triptych {command}`: `data.columns` can be set in a YAML only: `triptych config init`" in done.err


def said(fix: str, command: str) -> str:
    lines = message_for(InputError("wrong", fix=fix), command, _options_by_command()).splitlines()
    return lines[-1].partition("`: ")[2] if lines[-1].startswith("  for ") else ""


@pytest.mark.parametrize(
    ("fix", "command", "line"),
    [
        ("raise tune.max_tokens", "tune", "`tune.max_tokens` is --max-tokens"),
        ("raise max_tokens", "tune", "`max_tokens` can be set in a YAML only"),
        ("raise max_tokens", "run", ""),
        ("give `quantize: none`", "score", "`quantize` is --quantize"),
        ("hold it (model.hold: packed)", "score", "`model.hold` is --hold"),
        ("set data.strict", "score", "`data.strict` can be set in a YAML only"),
        ("use `device: auto` or `cpu`", "predict", "`device` is --device"),
        ("set data.dev_rows, or use `select: last`", "tune", "`data.dev_rows` is --dev-rows; `select` is --select"),
        ("use a prompt with `style: plain`", "score", ""),
        ("name another model with --model", "run", "--model is the key `model.name`"),
        ("--allow-pickle (model.allow_pickle)", "run", ""),
        ("--allow-pickle (model.allow_pickle)", "score", ""),
        ("name it with --adapter", "run", "--adapter is an option of `triptych score`"),
        ("start over with --fresh", "reproduce", "--fresh is an option of `triptych run`"),
        ("pip install --force-reinstall a", "score", ""),
        ("write `--out`", "score", ""),
    ],
)
def test_settings_and_options_of_other_commands_are_placed(fix: str, command: str, line: str) -> None:
    found = said(fix, command)
    assert found.startswith(line) if line else found == ""


def test_every_option_that_advice_names_is_one_of_some_command() -> None:
    """A `fix` that names an option nobody has can't be followed at all."""
    known = set().union(*_options_by_command().values(), {"--force-reinstall", "--upgrade", "--no-python"})
    known |= {"--nproc-per-node", "--debug"}
    for path in Path(package.__file__).parent.rglob("*.py"):
        for fix in re.findall(r"fix=f?\"([^\"]*)\"", path.read_text(encoding="utf-8")):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", fix):
                assert option in known, f"{path.name}: {option} in {fix!r}"


@pytest.mark.parametrize("path", [r'"C:\Users\me"', r'"D:\data"'])
def test_a_windows_path_in_double_quotes_is_told_from_wrong_indentation(path: str) -> None:
    with pytest.raises(ConfigError, match="single quotes") as error:
        load_yaml(f"data: {{train: {path}}}", Path("e.yaml"))
    assert "indentation" not in str(error.value)
    with pytest.raises(ConfigError, match="indentation"):
        load_yaml("a: 1\n  b: 2", Path("e.yaml"))


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']"),
            "load_dataset",
        ),
        (ValueError("BuilderConfig 'c' not found. Available: ['a']"), "load_dataset"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), "check the network"),
        (FileNotFoundError("Dataset 'a/b' doesn't exist on the Hub"), "check the spelling"),
        (OSError("a/b is a gated dataset on the Hub"), "hf auth login"),
    ],
)
def test_each_trouble_of_a_hub_data_set_has_its_own_advice(error: Exception, fix: str) -> None:
    with pytest.raises(DataError) as caught, _hub_errors("a/b"):
        raise error
    found = caught.value
    assert fix in str(found.fix)
    assert ("network" in str(found.fix)) == isinstance(error, ConnectionError)
    assert "available configs" not in str(error) or "['a', 'b']" in str(found.found)
