"""The public surface: what `import triptych` offers is exactly this; what a package declares is there, documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import triptych
from triptych.errors import ConfigError

SURFACE = ["Predictions", "Run", "Scores", "__version__", "load_run", "predict", "run", "score", "tune"]
MOST_SECONDS = 0.3
PACKAGES = sorted(name for _, name, is_package in pkgutil.walk_packages(triptych.__path__, "triptych.") if is_package)


def test_the_top_is_exactly_this() -> None:
    assert triptych.__all__ == SURFACE
    assert set(SURFACE) <= set(dir(triptych))
    for name in SURFACE:
        assert getattr(triptych, name) is not None


@pytest.mark.parametrize("name", [name for name in SURFACE if name != "__version__"])
def test_the_tops_names_are_documented(name: str) -> None:
    value = importlib.import_module("triptych.api").__dict__[name]
    doc = inspect.getdoc(value)
    assert doc and len(doc) > 20
    if inspect.isfunction(value):
        for parameter in inspect.signature(value).parameters:
            assert f"{parameter}:" in doc, f"{name}() says nothing of {parameter}"


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'triptych' has no attribute 'nonsense'"):
        _ = triptych.nonsense
    with pytest.raises(ImportError):
        exec("from triptych import nonsense")


def test_no_package_takes_the_name_of_a_call() -> None:
    """Python binds a subpackage's name in its parent whenever it is imported: `triptych.run` would be a module then."""
    assert not {name.removeprefix("triptych.") for name in PACKAGES} & set(SURFACE)


def test_an_unknown_setting_is_named_with_what_was_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        triptych.tune("no/such/model", "a.json", "b.json", epocs=1)
    assert caught.value.fix == "did you mean `epochs`?"


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_package_declares_is_there_sorted_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} says nothing of itself"
    declared = getattr(module, "__all__", [])
    plain = [one for one in declared if not one.startswith("_")]
    # ruff's order of __all__: constants, classes, functions
    assert declared == sorted(declared, key=lambda one: (not one.isupper(), not one[:1].isupper(), one))
    assert len(set(declared)) == len(declared)
    for one in plain:
        value = getattr(module, one)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("triptych"):
            assert inspect.getdoc(value), f"{name}.{one} has no docstring"
        assert not isinstance(value, ModuleType)


def test_importing_is_light_and_quick() -> None:
    program = (
        "import sys, time\n"
        "began = time.process_time()\n"
        "import triptych\n"
        "spent = time.process_time() - began\n"
        "heavy = [m for m in ('torch', 'transformers', 'pandas', 'numpy', 'pydantic', 'rich') if m in sys.modules]\n"
        "print(spent, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    spent, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert float(spent) < MOST_SECONDS


def test_reading_a_run_back_loads_no_torch() -> None:
    program = (
        "import sys, triptych\n"
        "triptych.load_run\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
