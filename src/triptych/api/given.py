"""What calls are given, in the forms that the code below them takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.config.experiment import ExperimentConfig

__all__ = ["config_of", "file_of"]


def config_of(
    config: str | Path | Mapping[str, Any] | ExperimentConfig, overrides: Mapping[str, Any]
) -> ExperimentConfig:
    """The settings that a call means.

    Args:
        config: a file, its content, or a config.
        overrides: sections with keys to change, or single keys with `__` for the dot.

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
    return validated(value, "the settings given to triptych.run")


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


def file_of(rows: Any, folder: Path, name: str) -> str:
    """The file of these rows; those that are no file yet are written to one."""
    if isinstance(rows, str | Path):
        return str(rows)
    lines = rows.to_dict(orient="records") if hasattr(rows, "to_dict") else list(rows)
    path = folder / f"{name}.jsonl"
    text = "".join(json.dumps(line, ensure_ascii=False, default=_plain) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return str(path)
