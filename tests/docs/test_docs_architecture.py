"""ARCHITECTURE.md is the drawing that import-linter enforces, and names every package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_layers_drawn_are_the_layers_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    assert layers["exhaustive"]
    enforced = [line for line in layers["layers"] if line != "__main__"]
    assert enforced in [block.splitlines() for block in BLOCKS]


def test_every_package_and_module_is_in_the_drawing() -> None:
    drawing = next(block for block in BLOCKS if block.startswith("src/triptych/"))
    source = ROOT / "src" / "triptych"
    packages = {path.parent.name for path in source.glob("*/__init__.py")}
    modules = {path.name for path in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    named = re.findall(r"^  ([a-z]+)/(?:  ([a-z]+)/)?", drawing, flags=re.MULTILINE)
    assert {name for names in named for name in names if name} == packages
    assert set(re.findall(r"[a-z]+\.py", drawing)) == modules
