"""What must stay light stays light, and packages say what they offer."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from collections.abc import Callable
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
FOR_REPORTS = ["scipy", "pandas", "matplotlib", "plotly", "pyarrow", "sacrebleu", "bm25s"]


def test_packages_that_load_no_torch() -> None:
    program = (
        "import importlib, json, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    if loaded: sys.exit(json.dumps([name, loaded]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def loaded_after(arguments: str, heavy: list[str]) -> list[str]:
    """Which of these libraries are loaded when `triptych ARGUMENTS` has ended, in a process of its own."""
    program = (
        "import json, sys\n"
        f"sys.argv = ['triptych', *{arguments.split()!r}]\n"
        "from triptych.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as error: assert not error.code, error.code\n"
        f"sys.stderr.write('\\n' + json.dumps([heavy for heavy in {heavy!r} if heavy in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stderr.splitlines()[-1])
    return loaded


@pytest.mark.parametrize(
    "command",
    [
        *("--help", "run --help", "score --help", "doctor --help", "report --help", "config schema"),
        *("config init --model demo --train sample --out OUT/experiment.yaml", "prompts list", "prompts show default"),
        "data check OUT/rows.json",
    ],
)
def test_commands_that_need_no_model_load_no_library_of_models(command: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"id": "1", "instruction": "the sun", "output": "sol"}]))
    assert loaded_after(command.replace("OUT", str(tmp_path)), [*HEAVY, *FOR_REPORTS]) == []


def test_score_loads_only_what_it_computes_with(
    fake_folder: Callable[..., Path], load_fake: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"id": "1", "instruction": "the sun", "output": "sol"}]))
    load_fake(quantize="nf4")  # its dequantized values are in the cache from here on
    # scipy.optimize is loaded by transformers itself, for losses of models that find objects in images
    not_needed = ["peft", "bitsandbytes", "scipy.stats", *(name for name in FOR_REPORTS if name != "scipy")]
    options = "--dtype float32 --device cpu --threads 1"
    command = f"score --model {fake_folder()} --data {tmp_path}/rows.json {options} --out {tmp_path}/scores.json"
    assert loaded_after(command, ["torch", *not_needed]) == ["torch"]


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
