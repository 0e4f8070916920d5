"""Errors in the words of who called. Their texts name options of commands and keys of a YAML: a call from Python has
parameters of the same names instead, and a command may read no YAML, or lack an option that another has.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from triptych.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

_KEY_OF_OPTION = {
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

_READS_YAML = frozenset({"run", "plan", "preview", "config"})
_TAKES_SETTINGS = frozenset({"score", "predict", "tune", "data"})
_ANY_KEY = re.compile(r"\b((?:data|model|tune|strategies|generate|report)\.[a-z_]+(?:\.[a-z_]+)*)\b")
_PAIR = re.compile(r"`([a-z_]+): \w+`")
_ALONE = re.compile(r"(?<![\w.-])(max_tokens)\b")
_BLOCK = re.compile(r"\n\s*(data):\n\s*(columns):")
_ANY_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_OTHER_NAMES = {key: option for option, key in _KEY_OF_OPTION.items()}
"""Keys whose option is not called as the key's last part."""
_NO_SUCH = {("tune", "max_tokens"), ("score", "data.columns"), ("predict", "data.columns")}
"""(command, key): its option of that name means something else (`tune.max_tokens`, the column of `--select same`)."""

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
        key = _KEY_OF_OPTION.get(f"--{match[3]}", "")
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


def message_for(error: InputError, command: str | None, options: Mapping[str, Collection[str]]) -> str:
    """The error's message, with a line on where its advice can be followed, if not by this command as it stands.

    `options`: command -> its options, for all commands. `command` is None if none ran.
    """
    if command is None or not error.fix:
        return str(error)
    if command in _TAKES_SETTINGS:
        said = _of_keys(error.fix, command, options)
    else:
        said = _of_options(error.fix, command, options)
    return "\n".join([str(error), *([f"  for `triptych {command}`: {'; '.join(said)}"] if said else [])])


def _of_keys(fix: str, command: str, options: Mapping[str, Collection[str]]) -> list[str]:
    """Keys of a YAML, to a command that takes options."""
    blocks = [".".join(found) for found in _BLOCK.findall(fix)]
    keys = [*blocks, *_ANY_KEY.findall(fix), *_PAIR.findall(fix), *_ALONE.findall(_ANY_KEY.sub("", fix))]
    said, nowhere = [], []
    for key in dict.fromkeys(keys):
        option = _option_of(key, command, options)
        if option and option not in fix:
            said.append(f"`{key}` is {option}")
        elif option is None and key != "style":  # a template file's own key
            nowhere.append(key)
    if nowhere:
        names = ", ".join(f"`{key}`" for key in nowhere)
        said.append(f"{names} can be set in a YAML only: `triptych config init` writes one for `triptych run`")
    return said + _of_options(fix, command, options)


def _option_of(key: str, command: str, options: Mapping[str, Collection[str]]) -> str | None:
    option = _OTHER_NAMES.get(key, f"--{key.rpartition('.')[2].replace('_', '-')}")
    return option if option in options[command] and (command, key) not in _NO_SUCH else None


def _of_options(fix: str, command: str, options: Mapping[str, Collection[str]]) -> list[str]:
    """Options that this command lacks and others have."""
    said = []
    for option in dict.fromkeys(_ANY_OPTION.findall(fix)):
        owners = [name for name, known in options.items() if option in known]
        if not owners or option in options[command]:
            continue
        key = _KEY_OF_OPTION.get(option)
        if command in _READS_YAML and key:
            if key not in fix:
                said.append(f"{option} is the key `{key}`")
        else:
            said.append(f"{option} is an option of {', '.join(f'`triptych {name}`' for name in owners)}")
    return said
