"""Whether an adapter is used with the prompt that it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from triptych.checks.findings import Check, count
from triptych.config.experiment import ExperimentConfig
from triptych.errors import ConfigError, ModelError
from triptych.grid.cells import TrainingSpec, trainings
from triptych.grid.rendered import RenderedExperiment
from triptych.records.home import is_there
from triptych.records.run_files import ADAPTER_RECORD
from triptych.records.store import read_json


def adapter_prompt(experiment: RenderedExperiment, adapters: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether each adapter there is was trained with the prompt it would be used with."""
    name, same = "prompt is the adapter's", 0
    bad: list[str] = []
    for training in experiment.trainings:
        trained_with = adapters.get(training.name, {}).get("prompt_sha256")
        if trained_with is None:
            continue
        now = experiment.templates[training.prompt].sha256
        if trained_with == now:
            same += 1
        else:
            was = adapters[training.name].get("prompt", "a prompt")
            bad.append(f"trained with `{was}` ({trained_with[:12]}…), `{training.prompt}` is {now[:12]}… now")
    if bad:
        fix = "give the prompt it was trained with under strategies.qlora.prompt, or train again with --fresh"
        return Check(name, False, "; ".join(bad), fix=fix)
    return Check(name, True, f"{count(same, 'adapter')}, same hash" if same else "no adapter yet")


def adapter_facts(
    config: ExperimentConfig, adapter_of: Callable[[TrainingSpec], Path] | None, adapter: Path | None = None
) -> dict[str, Mapping[str, Any]]:
    """What the run's adapters, as far as there are any, were saved with, by training.

    Args:
        config: the experiment.
        adapter_of: where the run's folder keeps a training's adapter; None: there is no folder.
        adapter: another one, in place of the first training's.

    Raises:
        ModelError: `adapter` is given and is none.
        ConfigError: `adapter` is given, and nothing is trained that it could be held against.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for training in trainings(config):
        place = adapter if adapter and training.first else adapter_of(training) if adapter_of else None
        if place is not None and is_there(place / ADAPTER_RECORD, Path.is_file):
            found[training.name] = read_json(place / ADAPTER_RECORD)
    if adapter is not None and not trainings(config):
        raise ConfigError(
            "an adapter's prompt is held against the one that is trained with, and nothing is trained",
            where="--adapter",
            found=str(adapter),
            fix="add the strategy qlora, or leave --adapter out",
        )
    if adapter is not None and trainings(config)[0].name not in found:
        is_folder = is_there(adapter, Path.is_dir)
        there = ", ".join(sorted(p.name for p in adapter.iterdir())[:8]) if is_folder else "no such folder"
        raise ModelError(
            "this folder doesn't say which prompt its adapter was trained with",
            where=str(adapter),
            found=there or "nothing",
            expected="triptych.json beside the adapter's weights",
        )
    return found
