"""Template files broken at random give prompts or one clean error."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from fuzz import fuzz, seconds
from triptych.data import Row
from triptych.generate.stops import patterns_of
from triptych.prompts import template_from_text

DEMOS = [Row("a", "x {k} {{i}}", "y"), Row("b", "é\n", "")]


def seeds() -> dict[str, bytes]:
    catalogue = files("triptych.prompts") / "catalogue"
    shipped = {entry.name: entry.read_bytes() for entry in catalogue.iterdir() if entry.name.endswith(".yaml")}
    rich = (
        "name: p\npreamble: &a 'Say {{x}}: '\nzero_shot: '{preamble}{instruction} = '\nlanguage: en\n"
        "few_shot:\n  head: '{k} examples\n\n    '\n  demo: '{i}. {instruction} {{j}} {output}\n\n    '\n"
        "  tail: '{instruction}'\nsource: *a\n"
    )
    turns = "zero_shot: '{instruction}'\nstyle: multiturn\nsystem: 'Be {{brief}}.'\n"
    return {
        **dict(sorted(shipped.items())[::8]),
        "rich.yaml": rich.encode(),
        "turns.yaml": turns.encode(),
        "text.txt": "翻譯：{instruction} {{word}} -> ".encode(),
    }


def read(path: Path) -> object:
    made = template_from_text(str(path))
    for demos in ((), DEMOS):
        made.prompt("a {b}", demos).encode()
        assert made.turns("a {b}", demos)[-1][0] == "user"
        patterns_of(made, shots=len(demos))
    assert made.sha256
    made.record()
    return made


def test_broken_templates(tmp_path: Path) -> None:
    outcomes = fuzz(seeds(), read, tmp_path, times=300)
    assert outcomes["read"] > 30
    assert len(outcomes) > 5


@pytest.mark.slow
def test_broken_templates_for_long(tmp_path: Path) -> None:
    assert fuzz(seeds(), read, tmp_path, lasting=seconds())["read"]
