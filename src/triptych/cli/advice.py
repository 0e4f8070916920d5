"""What an error's advice means to the command that shows it: which option a setting is, and whose an option is.

Errors come from code that serves every command, so their advice may name a key of a YAML to a command that reads none,
or an option that this command lacks. One line more says where it is set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from triptych.api.advice import KEY_OF_OPTION
from triptych.errors import InputError

_READS_YAML = frozenset({"run", "plan", "preview", "config"})
_TAKES_SETTINGS = frozenset({"score", "predict", "tune", "data"})
_KEY = re.compile(r"\b((?:data|model|tune|strategies|generate|report)\.[a-z_]+(?:\.[a-z_]+)*)\b")
_PAIR = re.compile(r"`([a-z_]+): \w+`")
_ALONE = re.compile(r"(?<![\w.-])(max_tokens)\b")
_BLOCK = re.compile(r"\n\s*(data):\n\s*(columns):")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_OTHER_NAMES = {key: option for option, key in KEY_OF_OPTION.items()}
"""Keys whose option is not called as the key's last part."""
_NO_SUCH = {("tune", "max_tokens"), ("score", "data.columns"), ("predict", "data.columns")}
"""(command, key): its option of that name means something else (`tune.max_tokens`, the column of `--select same`)."""


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
    keys = [*blocks, *_KEY.findall(fix), *_PAIR.findall(fix), *_ALONE.findall(_KEY.sub("", fix))]
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
    for option in dict.fromkeys(_OPTION.findall(fix)):
        owners = [name for name, known in options.items() if option in known]
        if not owners or option in options[command]:
            continue
        key = KEY_OF_OPTION.get(option)
        if command in _READS_YAML and key:
            if key not in fix:
                said.append(f"{option} is the key `{key}`")
        else:
            said.append(f"{option} is an option of {', '.join(f'`triptych {name}`' for name in owners)}")
    return said
