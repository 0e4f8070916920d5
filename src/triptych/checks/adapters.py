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
from triptych.records.disk import is_there
from triptych.records.run_files import ADAPTER_RECORD
from triptych.records.store import read_json


def adapter_prompt(experiment: RenderedExperiment, adapters: Mapping[str, Mapping[str, Any]]) -> Check:
    """Whether each adapter there is was trained with the prompt it would be used with."""
    name, same = "prompt is the adapter's", 0
    bad: list[str] = []
    for training in experiment.trainings:
        facts, now = adapters.get(training.name, {}), experiment.templates[training.prompt].sha256
        then = facts.get("prompt_sha256")
        same += then == now
        if then not in (None, now):
            was = f"`{facts.get('prompt', 'a prompt')}` ({then[:12]}…)"
            bad.append(f"trained with {was}, `{training.prompt}` is {now[:12]}… now")
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
        adapter_of: the folder of a training's adapter; None: there is no run folder.
        adapter: another folder, in place of the first training's.

    Raises:
        ModelError: `adapter` is given and is none.
        ConfigError: `adapter` is given, and nothing is trained that it could be compared with.
    """
    specs = trainings(config)
    if adapter is not None and not specs:
        raise ConfigError(
            "an adapter's prompt is compared with the one that is trained with, and nothing is trained",
            where="--adapter",
            found=str(adapter),
            fix="add the strategy qlora, or leave --adapter out",
        )
    facts: dict[str, Mapping[str, Any]] = {}
    for training in specs:
        place = adapter if adapter and training.first else adapter_of(training) if adapter_of else None
        if place is not None and is_there(place / ADAPTER_RECORD, Path.is_file):
            facts[training.name] = read_json(place / ADAPTER_RECORD)
    if adapter is not None and specs[0].name not in facts:
        is_folder = is_there(adapter, Path.is_dir)
        there = ", ".join(sorted(p.name for p in adapter.iterdir())[:8]) if is_folder else "no such folder"
        raise ModelError(
            "this folder doesn't say which prompt its adapter was trained with",
            where=str(adapter),
            found=there or "nothing",
            expected="triptych.json beside the adapter's weights",
        )
    return facts
