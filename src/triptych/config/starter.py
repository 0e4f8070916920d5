"""A configuration to begin with: every key with its default and what it means; and the schema for editors."""

from __future__ import annotations

import os
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from triptych.config.bundled import BUNDLED
from triptych.config.config_errors import section_of
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config, validated
from triptych.config.sources import SAMPLES, split_sample
from triptych.errors import ConfigError
from triptych.records.disk import is_there
from triptych.records.outputs import check_output
from triptych.records.store import write_text

_WIDTH = 100
_STRATEGIES: dict[str, dict[str, Any]] = {
    "zero_shot": {"prompts": ["default", "emotional"]},
    "few_shot": {"prompts": ["default"], "k": [1, 2, 3, 10], "seeds": [0, 1, 2]},
    "qlora": {"prompt": "default"},
}
"""What is written out for each strategy that is asked for: null would switch it off."""


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration, for editors that complete and check YAML."""
    found = ExperimentConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Triptych experiment"}


def starter_settings(
    *,
    model: str | None = None,
    train: str | None = None,
    test: str | None = None,
    strategies: Iterable[str] | None = None,
    prompts: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """The settings that are not left at their defaults; `train` may name bundled data.

    `prompts`: strategy -> its key for prompts -> their names, where they aren't the study's.

    Raises:
        ConfigError: a strategy that is unknown, or one that needs a train file and there is none.
    """
    settings: dict[str, Any] = {"model": {"name": model or "demo"}}
    data: dict[str, Any] = {}
    if train in SAMPLES or (train is None and test is None):
        data |= {"dir": train or SAMPLES[0], "train": "train.json", "test": "test.json"}
        train, test = None, None if test == train else test
    data |= {role: source for role, source in (("train", train), ("test", test)) if source}
    settings["data"] = data
    if metrics:
        settings["metrics"] = list(metrics)
    chosen = _chosen(strategies, data)
    settings["strategies"] = {name: {**_STRATEGIES[name], **(prompts or {}).get(name, {})} for name in chosen}
    return settings


def starter_text(settings: Mapping[str, Any]) -> str:
    """The YAML: what is set is live, the rest are comments with defaults; to set one, take its `#` away."""
    head = [
        "# A Triptych experiment: `triptych run` this file.",
        "# Lines such as `#key: value` are defaults: take the `#` away to change one.",
    ]
    return "\n".join([*head, "", *_lines(ExperimentConfig, settings, 0)]) + "\n"


def write_starter(out: Path, settings: Mapping[str, Any], *, force: bool = False) -> None:
    """Write the file whole, with local paths relative to it, after checking that it reads back as it was meant.

    Raises:
        ForeignFileError: the file is there already, or is one that is read.
        ConfigError: a setting is out of range.
        DiskError: it can't be written.
    """
    reads = {f"data.{role}": settings.get("data", {}).get(role) for role in ("train", "test")}
    paths = {role: split_sample(str(path))[0] if path else None for role, path in reads.items()}
    given = {**paths, "model.name": settings.get("model", {}).get("name")}
    check_output(out, reads=given, ours=lambda _: False, what="the settings", force=force, example="experiment.yaml")
    placed = _placed(settings, out.parent)
    meant = validated({**placed}, "the answers")
    text = starter_text(placed)
    if validated(yaml.safe_load(text), str(out)) != meant:
        raise AssertionError("the written configuration doesn't say what was meant")
    write_text(out, text)
    read_config(out)


def _chosen(strategies: Iterable[str] | None, data: Mapping[str, Any]) -> list[str]:
    has_train = "train" in data
    if strategies is None:
        return list(_STRATEGIES) if has_train else ["zero_shot"]
    chosen = [name for name in strategies if name]
    unknown = [name for name in chosen if name not in _STRATEGIES]
    if unknown or not chosen:
        raise ConfigError(
            f"there is no strategy {unknown[0]!r}" if unknown else "no strategy is chosen",
            expected=f"one or more of {', '.join(_STRATEGIES)}",
        )
    if chosen != ["zero_shot"] and not has_train:
        raise ConfigError(
            f"{' and '.join(name for name in chosen if name != 'zero_shot')} can't be run without training rows",
            fix="name a file with --train, or choose zero_shot alone",
        )
    return [name for name in _STRATEGIES if name in chosen]


def _placed(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Local paths, which were given relative to where the command runs, relative to the file."""
    placed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
    data, model = placed.get("data", {}), placed.get("model", {})
    for role in ("train", "test"):
        source = data.get(role)
        if not isinstance(source, str) or not source or data.get("dir"):
            continue
        path, n = split_sample(source)
        if is_there(path):
            data[role] = _relative(path, folder) + (f"#{n}" if n is not None else "")
    name = model.get("name")
    if isinstance(name, str) and name not in ("", *BUNDLED) and is_there(name):
        relative = _relative(name, folder)
        model["name"] = relative if relative.startswith("..") or Path(relative).is_absolute() else f"./{relative}"
    return placed


def _relative(path: str | Path, folder: Path) -> str:
    return str(path) if Path(path).is_absolute() else os.path.relpath(path, folder)


def _lines(model: type[BaseModel], settings: Mapping[str, Any], depth: int, *, live: bool = True) -> Iterator[str]:
    """A section's lines; with `live=False` all of them are comments."""
    indent = "  " * depth
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if depth == 0 and section:
            yield ""
        yield from (f"{indent}# {line}" for line in _doc(field, section))
        if section is None:
            given = live and name in settings
            value = settings[name] if given else field.get_default(call_default_factory=True)
            yield f"{indent}{'' if given else '#'}{name}: {_inline(value)}"
            continue
        inner = settings.get(name)
        on = live and (inner is not None or section_of(field.annotation) is field.annotation)
        below = list(_lines(section, inner if isinstance(inner, Mapping) else {}, depth + 1, live=on))
        yield f"{indent}{'' if on else '#'}{name}:"
        yield from below


def _doc(field: FieldInfo, section: type[BaseModel] | None) -> list[str]:
    text = field.description or (section.__doc__ if section else "") or ""
    text = " ".join(text.split()).replace("``", "`")
    if section is not None and section is not field.annotation:
        text = (
            f"{text} Off; `true` for its defaults.".strip()
            if field.get_default(call_default_factory=True) is None
            else text
        )
    options = [] if section else _options(field.annotation)
    if options:
        text = f"{text} One of {', '.join(options)}.".strip()
    return textwrap.wrap(text, _WIDTH)


def _options(annotation: Any) -> list[str]:
    """The values of a choice."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(option) for option in typing.get_args(annotation)]
    return [option for inner in typing.get_args(annotation) for option in _options(inner)]


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    plain = _plain(value)
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
