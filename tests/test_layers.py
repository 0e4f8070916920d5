"""What must stay light stays light, and packages say what they offer."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

LIGHT = [
    "triptych",
    "triptych.errors",
    "triptych.config.starter",
    "triptych.data",
    "triptych.prompts",
    "triptych.records",
    "triptych.report",
]
OFFERING = [name for name in LIGHT[1:] if "config" not in name]
PACKAGES = [*OFFERING, "triptych.api", "triptych.models", "triptych.training"]
HEAVY = ["torch", "transformers", "peft", "bitsandbytes"]


def test_rows_prompts_records_and_reports_load_no_torch() -> None:
    program = (
        "import importlib, json, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    if loaded: sys.exit(json.dumps([name, loaded]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", ["run --help", "config schema", "config init --model demo --train sample --out OUT"]
)
def test_commands_that_load_no_torch(command: str, tmp_path: Path) -> None:
    program = (
        "import json, sys\n"
        f"sys.argv = ['triptych', *{command.replace('OUT', str(tmp_path / 'experiment.yaml')).split()!r}]\n"
        "from triptych.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as error: assert not error.code, error.code\n"
        f"sys.stderr.write(json.dumps([heavy for heavy in {HEAVY!r} if heavy in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_the_public_names(name: str) -> None:
    module = importlib.import_module(name)
    public = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and not isinstance(value, types.ModuleType) and key != "annotations"
    }
    declared = set(module.__all__)
    assert len(declared) == len(module.__all__)
    if name == "triptych.errors":  # a module, not a package: it has imports of its own kind
        public = {key for key in public if isinstance(vars(module)[key], type)}
    assert public == declared - {"__version__"}
