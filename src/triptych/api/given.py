"""What calls are given, in the forms that the code below them takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.errors import DataError

if TYPE_CHECKING:
    from triptych.config.experiment import ExperimentConfig
    from triptych.data import GivenRows
    from triptych.generate.settings import GenerationSettings

_OF_MODEL = ("revision", "quantize", "double_quant", "dtype", "device", "hold", "threads", "allow_pickle")
_OF_CELL = ("prompt", "template", "limit", "max_tokens")
_OF_DEMONSTRATIONS = ("select", "seed", "draw", "order")
_OF_GENERATION = ("max_new_tokens", "max_new_ratio", "temperature", "top_p", "top_k", "beams", "no_repeat_ngram")


def config_of(
    config: str | Path | Mapping[str, Any] | ExperimentConfig, overrides: Mapping[str, Any]
) -> ExperimentConfig:
    """The settings that a call means; `overrides`: sections with keys to change, or single keys with `__` for the dot.

    Raises:
        ConfigError: anything unreadable, unknown or out of range.
    """
    from triptych.config.experiment import ExperimentConfig
    from triptych.config.read import read_config, validated

    changes = dict(_dotted(overrides))
    if isinstance(config, str | Path):
        return read_config(Path(config), [f"{key}={_as_yaml(value)}" for key, value in changes.items()])
    if isinstance(config, ExperimentConfig):
        if not changes:
            return config
        config = config.model_dump(mode="json", exclude_unset=True)
    value = json.loads(json.dumps(config, default=_plain))
    for key, change in changes.items():
        *parents, last = key.split(".")
        at = value
        for parent in parents:
            if not isinstance(at.get(parent), dict):
                at[parent] = {}
            at = at[parent]
        at[last] = change
    return validated(value, "the command line")


def _plain(value: Any) -> Any:
    """What a notebook has in a mapping and JSON doesn't know: paths, tuples of numpy's numbers."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _dotted(overrides: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in overrides.items():
        key = before + name.replace("__", ".")
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{key}.")
        else:
            yield key, value


def _as_yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(json.loads(json.dumps(value, default=_plain)), default_flow_style=True, width=1 << 20)
    return text.removesuffix("\n").removesuffix("\n...")


def source_of(rows: Any, name: str) -> str | GivenRows:
    """What rows are read from: a file's name, or the rows themselves. `name`: of the parameter."""
    from triptych.data import GivenRows

    if isinstance(rows, str | Path):
        return str(rows)
    lines = rows.to_dict(orient="records") if hasattr(rows, "to_dict") else rows
    where = f"the rows given as `{name}`"
    try:
        return GivenRows(tuple(json.loads(json.dumps(line, default=_plain)) for line in lines), where)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list that contains itself
        raise DataError("a row can't be written as JSON", where=where, found=str(error)) from error


def model_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The section `model` of an experiment, from the parameters of a call."""
    return {"name": str(given["model"]), **{name: given[name] for name in _OF_MODEL}}


def cell_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `score` and `predict` ask for alike, as a `CellRequest` takes it, from the parameters of either."""
    from triptych.config.model import ModelConfig
    from triptych.config.read import from_options
    from triptych.config.strategies import DemosConfig
    from triptych.grid.demonstrations import Shots

    pool, adapter = given["pool"], given["adapter"]
    return {
        **{name: given[name] for name in _OF_CELL},
        "model": from_options(ModelConfig, **model_settings(given)),
        "data": source_of(given["data"], "data"),
        "shots": Shots(
            k=given["shots"],
            pool=None if pool is None else source_of(pool, "pool"),
            **{name: given[name] for name in _OF_DEMONSTRATIONS},
            demos=from_options(DemosConfig, **{name: given[name] for name in DemosConfig.model_fields}),
        ),
        "adapter": None if adapter is None else Path(adapter),
    }


def measured(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `score` measures, as a `CellRequest` takes it: options that are given ask for `accuracy` by themselves.

    Options are a list, `a,b,c`, a file (a JSON list, or a line each), `auto`, or the name of a column.
    """
    from triptych.config.metrics import Measured
    from triptych.config.read import from_options
    from triptych.records.disk import is_there

    metrics, choices = tuple(given["metric"] or ()), given["choices"]
    if choices is not None and not metrics:
        metrics = ("accuracy",)
    file = Path(choices) if isinstance(choices, str | Path) and is_there(choices, Path.is_file) else None
    if file is not None:
        choices = _listed_in(file)
    elif isinstance(choices, str):
        choices = [part.strip() for part in choices.split(",")] if "," in choices else choices
    elif choices is not None:
        choices = [str(choices)] if isinstance(choices, Path) else list(choices)
    settings = {"metric": metrics, "choices": choices}
    found = from_options(Measured, **{name: value for name, value in settings.items() if value})
    return {"metrics": found.metric, "choices": found.choices, "choices_file": file}


def _listed_in(file: Path) -> list[str]:
    from triptych.config.yaml_file import read_text

    content = read_text(file, kind="options")
    if file.suffix != ".json":
        return [line for line in content.splitlines() if line]
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError("a file of options is no JSON", where=str(file), found=str(error)) from error
    if not isinstance(value, list):
        raise DataError("a file of options holds no list", where=str(file), expected='["a", "b"]')
    return value


def generation_settings(given: Mapping[str, Any]) -> GenerationSettings:
    """How to write, from the parameters of `predict`."""
    from triptych.config.read import from_options
    from triptych.generate.settings import GenerationSettings

    return from_options(
        GenerationSettings,
        **{name: given[name] for name in _OF_GENERATION},
        seed=given["seed"] if given["temperature"] else 0,
        stop_patterns=tuple(re.escape(text) for text in given["stop"] or ()),
    )
