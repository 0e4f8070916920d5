"""`triptych prompts`: the list, one prompt, and what is said of one that isn't there."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from triptych.cli.prompts import app
from triptych.errors import TemplateError
from triptych.prompts import catalogue


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_list_names_every_prompt() -> None:
    lines = output("list").splitlines()
    for name, template in catalogue().items():
        line = next(line for line in lines if line.split()[:1] == [name])
        assert line.split()[1:3] == [template.language, template.style]


def test_list_as_json_is_all_of_each_prompt() -> None:
    listed = json.loads(output("list", "--json"))
    assert [entry["name"] for entry in listed] == list(catalogue())
    for entry in listed:
        template = catalogue()[entry["name"]]
        assert entry["sha256"] == template.sha256
        assert entry["zero_shot"] == template.zero_shot
        assert (entry["source"], entry["description"]) == (template.source, template.description)


def test_show() -> None:
    shown = output("show", "ep03-zh", "--k", "2")
    assert shown.startswith("prompt: ep03-zh\n")
    assert "我會給你2個例子" in shown
    assert "第2個例子" in shown


def test_show_what_is_not_there() -> None:
    with pytest.raises(TemplateError, match="did you mean `ep03-"):
        CliRunner().invoke(app, ["show", "ep03"], catch_exceptions=False)
