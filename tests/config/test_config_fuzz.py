"""Configurations broken at random give settings or one clean error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from fuzz import fuzz, seconds
from triptych.config.config_errors import section_of
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.config.starter import starter_settings, starter_text
from triptych.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"
SETS = ["tune.lr=1", "strategies.few_shot.k=[1]", "data.dir=x", "prompts.a.b=1", "strategies.qlora=null"]


def seeds() -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in EXAMPLES.rglob("*.yaml")}
    rich = (
        "name: a\nmodel: &m {name: demo, threads: 2}\ndata:\n  train: x.jsonl#5\n  columns: {instruction: q}\n"
        "  derive:\n    d: {v: ['a', 'b']}\nprompts:\n  p: 'say {instruction}'\n  q:\n    name: q\n"
        "strategies:\n  zero_shot: true\n  few_shot:\n    k: [1, 2]\n"
        "tune:\n  betas: [0.9, 0.99]\n  target_modules: [q_proj]\n"
    )
    starter = starter_text(starter_settings())
    return {**files, "rich.yaml": rich.encode(), "starter.yaml": starter.encode()}


def read(path: Path) -> object:
    return read_config(path, SETS[: path.stat().st_size % 6])


def test_broken_configurations(tmp_path: Path) -> None:
    outcomes = fuzz(seeds(), read, tmp_path, times=250)
    assert outcomes["read"] > 10
    assert len(outcomes) > 8


@pytest.mark.parametrize("value", ["1" * 400, "-" + "1" * 400, "[1]", "{a: 1}", ".inf", "[.nan]", "1" * 5000])
def test_no_value_of_any_key_is_more_than_an_input_error(value: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\n", encoding="utf-8")
    for key in keys(ExperimentConfig, ""):
        with contextlib.suppress(ConfigError):
            read_config(path, [f"{key}={value}"])


def keys(section: type[BaseModel], at: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        yield at + name
        yield from keys(inner, f"{at}{name}.") if inner else ()


@pytest.mark.slow
def test_broken_configurations_for_long(tmp_path: Path) -> None:
    assert fuzz(seeds(), read, tmp_path, lasting=seconds())["read"]
