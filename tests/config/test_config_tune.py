"""Hyper-parameters: the schedules are transformers', points and checkpoints fall where they are promised."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from triptych.config.tune import PRESETS, TuneConfig
from triptych.models import LoraSettings
from triptych.training import learning_rate

TOTALS = (1, 2, 7, 30, 100, 187)


def theirs(schedule: str, warmup: int, total: int) -> list[float]:
    import torch
    from transformers import (
        get_constant_schedule_with_warmup,
        get_cosine_schedule_with_warmup,
        get_linear_schedule_with_warmup,
    )

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    made = {
        "cosine": lambda: get_cosine_schedule_with_warmup(optimizer, warmup, total),
        "linear": lambda: get_linear_schedule_with_warmup(optimizer, warmup, total),
        "constant": lambda: get_constant_schedule_with_warmup(optimizer, warmup),
    }[schedule]()
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.1, 0.5])
def test_learning_rate_is_transformers(schedule: str, warmup: float) -> None:
    for total in TOTALS:
        config = TuneConfig(lr=1e-3, schedule=schedule, warmup=warmup)
        steps = math.ceil(warmup * total)  # as TrainingArguments.get_warmup_steps
        ours = [learning_rate(config, step, total) for step in range(total)]
        expected = theirs(schedule, steps, total)
        if steps == 1:
            # the one difference: a warm-up of a single step would be a step at rate 0, which trains nothing
            assert expected[0] == 0
            expected[0] = config.lr
        assert ours == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_learning_rate_rises_to_the_peak_and_falls_to_zero() -> None:
    for schedule in ("cosine", "linear"):
        config = TuneConfig(lr=0.5, schedule=schedule, warmup=0.1)
        rates = [learning_rate(config, step, 100) for step in range(101)]
        assert max(rates) == rates[10] == 0.5
        assert rates[:11] == sorted(rates[:11])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[100] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("config", "n_rows", "steps"),
    [
        ({"batch_size": 4, "accumulation": 4, "epochs": 3}, 10_000, 1875),  # the study's
        ({"batch_size": 16, "epochs": 2}, 17, 4),  # the last step of an epoch is short
        ({"batch_size": 4, "epochs": 0.5}, 16, 2),
        ({"batch_size": 64, "epochs": 0.1}, 3, 1),  # never none
        ({"batch_size": 4, "epochs": 3, "max_steps": 5}, 16, 5),
        ({"batch_size": 4, "epochs": 1, "max_steps": 5}, 16, 4),
    ],
)
def test_total_steps(config: dict[str, float], n_rows: int, steps: int) -> None:
    assert TuneConfig(**config).total_steps(n_rows) == steps


@pytest.mark.parametrize(
    ("every", "total", "steps"),
    [
        (4, 12, [0, 4, 8, 12]),
        (5, 12, [0, 5, 10, 12]),
        (100, 12, [0, 12]),
        (12, 12, [0, 12]),
        (1, 3, [0, 1, 2, 3]),
        (None, 1, [0, 1]),
        (None, 100, list(range(0, 101, 10))),
    ],
)
def test_eval_steps(every: int | None, total: int, steps: list[int]) -> None:
    assert TuneConfig(eval_every=every).eval_steps(total) == steps


def test_checkpoints_are_due_as_often_as_the_curve_and_at_the_end() -> None:
    def due(config: TuneConfig, total: int) -> list[int]:
        return [step for step in range(1, total + 1) if config.is_checkpoint(step, total)]

    assert due(TuneConfig(eval_every=4), 10) == [4, 8, 10]
    assert due(TuneConfig(checkpoint_every=3, eval_every=4), 10) == [3, 6, 9, 10]
    assert due(TuneConfig(eval_every=125), 200) == [50, 100, 150, 200]  # never more than 50 steps are lost
    assert due(TuneConfig(), 30) == list(range(3, 31, 3))


def test_a_step_has_batch_times_accumulation_rows() -> None:
    assert TuneConfig(batch_size=4, accumulation=4).rows_per_step == 16


def test_a_preset_gives_defaults_and_explicit_keys_win() -> None:
    study = TuneConfig(preset="study")
    assert (study.r, study.alpha, study.epochs, study.lr, study.schedule) == (64, 16, 3, 3e-5, "constant")
    assert (study.batch_size, study.accumulation, study.rows_per_step) == (4, 4, 16)
    mixed = TuneConfig(preset="study", r=8, schedule="cosine")
    assert (mixed.r, mixed.schedule, mixed.lr) == (8, "cosine", 3e-5)
    # what is recorded is resolved, and read back it is the same
    recorded = mixed.model_dump(mode="json")
    assert (recorded["preset"], recorded["r"], recorded["epochs"]) == ("study", 8, 3)
    assert TuneConfig(**recorded) == mixed


def test_the_presets_are_the_shipped_defaults_and_the_studys_example() -> None:
    assert TuneConfig(preset="qlora-short").model_dump(exclude={"preset"}) == TuneConfig().model_dump(
        exclude={"preset"}
    )
    example = yaml.safe_load((Path(__file__).parents[2] / "examples/hw3/experiment.yaml").read_text())["tune"]
    study = TuneConfig(preset="study").model_dump()
    given = {key: value for key, value in example.items() if key in PRESETS["study"]}
    assert given
    assert {key: study[key] for key in given} == given


def test_on_and_off_as_yaml_reads_them() -> None:
    for text, meant in (("on", "on"), ("off", "off"), ('"on"', "on"), ("auto", "auto")):
        given = yaml.safe_load(f"activation_checkpointing: {text}")
        assert TuneConfig(**given).activation_checkpointing == meant


def test_patience_needs_dev() -> None:
    with pytest.raises(ValidationError, match="select: dev"):
        TuneConfig(patience=2)
    assert TuneConfig(patience=2, select="dev").patience == 2


def test_target_modules_from_the_command_line() -> None:
    assert LoraSettings.of(TuneConfig(target_modules="q_proj, v_proj")).target_modules == ("q_proj", "v_proj")
    assert LoraSettings.of(TuneConfig()).target_modules is None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lr": 0}, {"lr": 2}, {"r": 0}, {"dropout": 1}, {"warmup": 1}, {"epochs": 0}, {"learning_rate": 1e-3}),
        *({"preset": "best"}, {"lora_plus_ratio": 0}, {"patience": 0, "select": "dev"}, {"long_rows": "cut"}),
        *({"activation_checkpointing": "maybe"}, {"alpha": 0}),
    ],
)
def test_out_of_range_or_unknown_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TuneConfig(**wrong)
