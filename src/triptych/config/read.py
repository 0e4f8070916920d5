"""Reading an experiment's YAML: every mistake is named with the file, the line, the key and the way out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from triptych.config.bundled import BUNDLED
from triptych.config.config_errors import all_mistakes, short
from triptych.config.experiment import ExperimentConfig
from triptych.config.metrics import is_own_metric
from triptych.config.sources import SAMPLES, split_sample
from triptych.config.yaml_file import load_yaml, read_text
from triptych.errors import ConfigError
from triptych.records.disk import at_home, is_there

S = TypeVar("S", bound=BaseModel)


def read_config(path: Path, sets: Sequence[str] = ()) -> ExperimentConfig:
    """Read a YAML file and put `--set key.sub=value` over it.

    Raises:
        ConfigError: anything unreadable, unknown or out of range.
    """
    value, node = load_yaml(read_text(path), path)
    if value is None:
        raise ConfigError(
            "the configuration is empty",
            where=str(path),
            found="no settings, or comments alone",
            expected="sections such as `model:`, `data:`, `strategies:`",
            fix="`triptych config init --out FILE.yaml` writes one with every key explained",
        )
    if not isinstance(value, dict):
        raise ConfigError(
            "the configuration is not a mapping",
            where=str(path),
            found="a list" if isinstance(value, list) else short(value),
            expected="sections such as `model:`, `data:`, `strategies:`",
        )
    elsewhere = any(assignment.partition("=")[0].strip() == "data.dir" for assignment in sets)
    _resolve_paths(value, path.parent, elsewhere=elsewhere)
    origins = {}
    for assignment in sets:
        origins[_apply(value, assignment)] = f"--set {assignment}"
    _expand_home(value)
    config = validated(value, str(path), node, origins)
    beside = str(path.parent.resolve())
    if any(map(is_own_metric, config.metrics)) and beside not in sys.path:
        sys.path.append(beside)  # last: no file there takes the place of a library's
    return config


def validated(
    value: dict[str, Any], source: str, node: yaml.Node | None = None, origins: Mapping[str, str] | None = None
) -> ExperimentConfig:
    """Check settings that were read from `source`.

    `node` is the parsed file, to find lines in; `origins`: dotted key -> the `--set` that gave it.
    """
    try:
        return ExperimentConfig.model_validate(value)
    except ValidationError as error:
        raise all_mistakes(error, source, node, origins or {}) from error


def from_options(section: type[S], **values: Any) -> S:
    """A section whose settings are options of a command, or arguments of a call.

    Raises:
        ConfigError: one can't be used.
    """
    try:
        return section(**values)
    except ValidationError as error:
        options = {key: f"--{key.replace('_', '-')}" for key in values}
        raise all_mistakes(error, "the command line", None, options) from error


def _expand_home(value: dict[str, Any]) -> None:
    """`~` in every key that may be a path."""
    for section, keys in (("data", ("dir", "train", "test")), ("model", ("name",)), ("prompts", None)):
        inner = value.get(section)
        if not isinstance(inner, dict):
            continue
        for key in keys or list(inner):
            if isinstance(inner.get(key), str):
                inner[key] = at_home(inner[key])


def _resolve_paths(value: dict[str, Any], folder: Path, *, elsewhere: bool) -> None:
    """Make paths of the file relative to where the command runs; `elsewhere`: a `--set` gives the data's folder."""
    _expand_home(value)
    data, model = value.get("data"), value.get("model")
    if isinstance(data, dict) and isinstance(data.get("dir"), str) and data["dir"] not in SAMPLES:
        data["dir"] = str(folder / data["dir"])
    elif isinstance(data, dict) and data.get("dir") is None and not elsewhere:
        for role in ("train", "test"):
            if isinstance(data.get(role), str) and is_there(split_sample(folder / data[role])[0]):
                data[role] = str(folder / data[role])
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        name = model["name"]
        if name.startswith(("./", "../")) or (name not in ("", *BUNDLED) and is_there(folder / name)):
            model["name"] = str(folder / name)
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
        parsed, _ = load_yaml(text, Path("--set"))
    except ConfigError as error:
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
                found=f"{parent}: {short(inner)[1:-1] if isinstance(inner, str) else short(inner)}",
            )
        at = inner
    at[last] = parsed
    return key
