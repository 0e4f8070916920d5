"""Configurations broken at random give settings or one clean error."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import fuzz, seconds
from triptych.config.read import read_config
from triptych.config.starter import starter_settings, starter_text

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


@pytest.mark.slow
def test_broken_configurations_for_long(tmp_path: Path) -> None:
    assert fuzz(seeds(), read, tmp_path, lasting=seconds())["read"]
