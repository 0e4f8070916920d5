"""Errors in the words of who called: their texts name the command line's options, and a call from Python has
parameters of the same names instead.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from triptych.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

KEY_OF_OPTION = {
    "--model": "model.name",
    "--allow-pickle": "model.allow_pickle",
    "--quantize": "model.quantize",
    "--max-tokens": "max_tokens",
    "--shots": "strategies.few_shot.k",
    "--pool": "data.train",
    "--column": "data.columns",
    "--dora": "tune.use_dora",
    "--rslora": "tune.use_rslora",
    "--limit": "data.train_rows",
}
"""The YAML key that an option of another command sets, where the key's last part is not the option's name."""

_OPTION = re.compile(r"(`?)(?<![\w-])--(no-)?([a-z][a-z-]*[a-z])(`?)")
_SET = re.compile(r"--set ([\w.]+)(?==)")
_KEY = re.compile(r"\b(?:data|model|tune|generate)\.([a-z_]+)\b(?![.\w])")
_SECTIONS = {"name": "model", "train_rows": "limit"}
"""Last part of a key -> the parameter, where it is called otherwise."""

_speaks_options: ContextVar[bool] = ContextVar("speaks_options", default=False)


@contextmanager
def for_the_command_line() -> Iterator[None]:
    """Leave the options' names in errors: a user of the command line reads them."""
    token = _speaks_options.set(True)
    try:
        yield
    finally:
        _speaks_options.reset(token)


def names_parameters(call: Callable[P, R]) -> Callable[P, R]:
    """Let a call's errors name its parameters where their texts name options, or YAML keys that it has no YAML for."""
    parameters = inspect.signature(call).parameters

    @functools.wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except InputError as error:
            if _speaks_options.get():
                raise
            parts = (error.what, error.where, error.found, error.expected, error.fix)
            what, where, found, expected, fix = (part and _in_python(part, call.__name__, parameters) for part in parts)
            named = type(error)(what or "", where=where, found=found, expected=expected, fix=fix)
            raise named.with_traceback(error.__traceback__) from error.__cause__

    return called


def _in_python(text: str, call: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    def option(match: re.Match[str]) -> str:
        no, name = match[2], match[3].replace("-", "_")
        if no and name not in parameters:
            no, name = None, f"no_{name}"
        key = KEY_OF_OPTION.get(f"--{match[3]}", "")
        if name in parameters:
            switch = isinstance(parameters[name].default, bool)
            return f"`{name}={not no}`" if switch else f"`{name}`"
        return f"`{key}`" if "config" in parameters and key else match[0]

    def key(match: re.Match[str]) -> str:
        name = _SECTIONS.get(match[1], match[1])
        return name if name in parameters or ("settings" in parameters and match[0].startswith("tune.")) else match[0]

    text = text.replace("the command line", f"the settings given to triptych.{call}")
    text = _OPTION.sub(option, _SET.sub(lambda match: match[1].replace(".", "__"), text))
    return text if "config" in parameters else _KEY.sub(key, text)
