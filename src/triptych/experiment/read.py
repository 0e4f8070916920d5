"""Reading an experiment's YAML: every mistake is one error that names the file, the line, the key and the way out."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from triptych.data import SAMPLE
from triptych.errors import ConfigError
from triptych.experiment.config import ExperimentConfig

__all__ = ["read_config", "validated"]

_EXPECTED = {
    "missing": "a value",
    "tuple_type": "a list, e.g. [a, b]",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text, in quotes if it looks like a number or a date",
    "string_pattern_mismatch": "letters, digits, `_`, `-` and `.`, the first a letter, digit or `_`",
}


def read_config(path: Path, sets: Sequence[str] = ()) -> ExperimentConfig:
    """Read a YAML file and put `--set key.sub=value` over it.

    Raises:
        ConfigError: anything unreadable, unknown or out of range.
    """
    text = _read(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: something like a date that is none
        raise _not_yaml(path, error) from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(
            "the configuration is not a mapping",
            where=str(path),
            found="a list" if isinstance(value, list) else repr(value),
            expected="sections such as `model:`, `data:`, `strategies:`",
        )
    elsewhere = any(assignment.partition("=")[0].strip() == "data.dir" for assignment in sets)
    _resolve_paths(value, path.parent, elsewhere=elsewhere)
    origins = {}
    for assignment in sets:
        origins[_apply(value, assignment)] = f"--set {assignment}"
    return validated(value, str(path), node, origins)


def validated(
    value: dict[str, Any], source: str, node: yaml.Node | None = None, origins: Mapping[str, str] | None = None
) -> ExperimentConfig:
    """Check settings that were read.

    Args:
        value: the settings.
        source: file they are from, for messages.
        node: the parsed file, to find lines in.
        origins: dotted key -> the `--set` that gave it.
    """
    try:
        return ExperimentConfig.model_validate(value)
    except ValidationError as error:
        raise _first_mistake(error, source, node, origins or {}) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise ConfigError(
            "there is no such configuration file",
            where=str(path),
            found=", ".join(sorted(siblings)) or "no YAML file in that folder",
            fix=f"did you mean {path.parent / near[0]}?" if near else "check the path",
        ) from error
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            "the configuration can't be read",
            where=str(path),
            found=getattr(error, "strerror", None) or "bytes that are not UTF-8",
            expected="a YAML file in UTF-8",
        ) from error


def _not_yaml(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    return ConfigError(
        "the configuration is not YAML",
        where=place,
        found=str(getattr(error, "problem", None) or error),
        fix="check the indentation and that texts with `:` or `{` are quoted",
    )


def _resolve_paths(value: dict[str, Any], folder: Path, *, elsewhere: bool) -> None:
    """Make paths of the file relative to where the command runs; `elsewhere`: a `--set` gives the data's folder."""
    data, model = value.get("data"), value.get("model")
    if isinstance(data, dict) and isinstance(data.get("dir"), str) and data["dir"] != SAMPLE:
        data["dir"] = str(folder / data["dir"])
    elif isinstance(data, dict) and data.get("dir") is None and not elsewhere:
        for role in ("train", "test"):
            if isinstance(data.get(role), str) and (folder / data[role]).exists():
                data[role] = str(folder / data[role])
    if isinstance(model, dict) and isinstance(model.get("name"), str) and model["name"].startswith(("./", "../")):
        model["name"] = str(folder / model["name"])
    prompts = value.get("prompts")
    if isinstance(prompts, dict):
        for name, text in prompts.items():
            if isinstance(text, str) and "{" not in text and "\n" not in text:
                prompts[name] = str(folder / text)


def _apply(value: dict[str, Any], assignment: str) -> str:
    """Put one `key.sub=value` in place; returns the dotted key."""
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            "a --set is not an assignment",
            where=f"--set {assignment}",
            expected="key.sub=value, e.g. --set tune.epochs=1",
        )
    try:
        parsed = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            "a --set has a value that is not YAML",
            where=f"--set {assignment}",
            found=text,
            expected="a number, a text, or a list such as [1, 2]",
        ) from error
    *parents, last = key.split(".")
    at = value
    for parent in parents:
        inner = at.setdefault(parent, {})
        if inner is None or inner is True:
            inner = at[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                "a --set reaches into something that has no keys",
                where=f"--set {assignment}",
                found=f"{parent}: {inner}",
            )
        at = inner
    at[last] = parsed
    return key


def _first_mistake(
    error: ValidationError, source: str, node: yaml.Node | None, origins: Mapping[str, str]
) -> ConfigError:
    problems = error.errors()
    # an unknown key is what explains the others
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = _location(problem["loc"])
    key = ".".join(map(str, location))
    given_by = next((text for name, text in origins.items() if f"{key}.".startswith(f"{name}.")), None)
    given_by = given_by or next((text for name, text in origins.items() if name.startswith(f"{key}.")), None)
    in_file = f"{source}, line {_line(node, location)}" if node is not None else source
    where = given_by or f"{in_file}, key `{key}`"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return ConfigError(
            f"unknown key `{key}`",
            where=where,
            expected=", ".join(known),
            fix=f"did you mean `{near[0]}`?" if near else "remove it",
        )
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConfigError(
        f"`{key}` can't be used{more}" if key else "the configuration can't be used",
        where=where,
        found=_short(problem.get("input")),
        expected=_expected(problem),
    )


def _location(parts: Sequence[str | int]) -> list[str | int]:
    """The key's parts, without the names that pydantic gives to the branches of a union."""
    plain = [part for part in parts if not (isinstance(part, str) and "[" in part)]
    return plain[:2] if plain[:1] == ["prompts"] else plain  # a template's own keys are checked where it is built


def _expected(problem: Mapping[str, Any]) -> str:
    """What would have been right, in a user's words."""
    if problem["type"] in _EXPECTED:
        return _EXPECTED[problem["type"]]
    message: str = problem["msg"]
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "…"


def _line(node: yaml.Node | None, location: Sequence[str | int]) -> int:
    """Line of the deepest part of a key that is in the file."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """Keys allowed in a section."""
    model: type[BaseModel] = ExperimentConfig
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return sorted(model.model_fields)
