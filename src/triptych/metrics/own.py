"""A metric of the user's own: `MODULE:FUNCTION`, called with a text and its reference, gives a number."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triptych.data import Row
from triptych.errors import ConfigError


class OwnMetricError(Exception):
    """A function of the user's raised, or gave no number."""


def own_metric(name: str) -> Callable[[str, Row], float]:
    """The function that a metric names, of a text and the row that it was written for.

    Its module is looked for where the command runs, then where Python finds modules, then beside the YAML
    (`config.read` appends that folder). A function with three parameters is given the row too, as a mapping with the
    row's id, instruction, output and further columns.

    Raises:
        ConfigError: the module can't be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        with _found_here():
            module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything, and scripts call sys.exit
        raise ConfigError(
            "a metric of your own can't be imported",
            where="metrics",
            found=f"{name}: {type(error).__name__}: {error}",
            expected="MODULE:FUNCTION, a module beside the YAML or where the command runs, or an installed one",
            fix=f"check the name, or put {module_name.partition('.')[0]}.py there",
        ) from error
    takes_row = _takes_row(name, function)

    def call(text: str, row: Row) -> float:
        given = (text, row.target(), _mapping(row)) if takes_row else (text, row.target())
        try:
            value: Any = function(*given)
        except (Exception, SystemExit) as error:  # as above
            raise OwnMetricError(f"{name} raised {type(error).__name__}: {error}") from error
        if (number := _number(value)) is None:
            raise OwnMetricError(f"{name} gave {value!r:.80}, and has to give a finite number")
        return number

    return call


@contextmanager
def _found_here() -> Iterator[None]:
    """The folder where the command runs is first for this import, and last for those of libraries that follow."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


def _takes_row(name: str, function: Any) -> bool:
    """Whether a function is called with the row too: it must take that, or can't be called with two arguments."""
    expected = "a function of a text and its reference, or of a text, its reference and the row, that returns a number"
    if not callable(function):
        found = f"{name} is of type {type(function).__name__}"
        raise ConfigError("a metric of your own is no function", where="metrics", found=found, expected=expected)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of functions in C some have none
        return False
    for n in (3, 2):
        try:
            signature.bind(*range(n))
        except TypeError:
            continue
        # (text, reference, ignore_case=True) has an option, not a row
        return n == 3 and (_requires(signature, 3) or "row" in signature.parameters)
    found = f"{name}{signature}"
    raise ConfigError("a metric of your own takes other arguments", where="metrics", found=found, expected=expected)


def _requires(signature: inspect.Signature, n: int) -> bool:
    try:
        signature.bind(*range(n - 1))
    except TypeError:
        return True
    return False


def _mapping(row: Row) -> dict[str, str]:
    return {**dict(row.columns), "id": row.id, "instruction": row.instruction, "output": row.target()}


def _number(value: Any) -> float | None:
    """A number, also one of numpy's; None for anything else."""
    if isinstance(value, str | bytes) or value is None:  # float("1") is a number
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
