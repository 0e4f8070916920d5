"""A metric of the user's own: `MODULE:FUNCTION`, called with a text and its reference, gives a number."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError


class OwnMetricError(Exception):
    """A function of the user's raised, or gave no number."""


def own_metric(name: str) -> Callable[[str, str], float]:
    """The function that a metric names; its module is looked for where the command runs, too.

    Raises:
        ConfigError: the module can't be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # a module of the user's may raise anything
        raise ConfigError(
            "a metric of your own can't be imported",
            where="metrics",
            found=f"{name}: {type(error).__name__}: {error}",
            expected="MODULE:FUNCTION, a module that Python finds from the folder where the command runs",
            fix=f"check the name, or run the command beside {module_name.partition('.')[0]}.py",
        ) from error
    if not callable(function):
        raise ConfigError(
            "a metric of your own is no function",
            where="metrics",
            found=f"{name} is of type {type(function).__name__}",
            expected="a function of a text and its reference that returns a number",
        )

    def call(text: str, reference: str) -> float:
        try:
            value: Any = function(text, reference)
        except Exception as error:  # as above
            raise OwnMetricError(f"{name} raised {type(error).__name__}: {error}") from error
        if not isinstance(value, bool | int | float) or not math.isfinite(value):
            raise OwnMetricError(f"{name} gave {value!r:.80}, and has to give a finite number")
        return float(value)

    return call
