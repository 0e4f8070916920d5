"""`--within`: rows that fit in a time, the same for every cell, more of them with more time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_experiment import write_rows
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.config.within import seconds_of
from triptych.errors import ConfigError
from triptych.grid.inputs import check_pool, read_data
from triptych.plan import within
from triptych.plan.time import Rates
from triptych.progress import Silent
from triptych.records.store import read_json
from triptych.runner.run import run_experiment

Project = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ExperimentConfig]:
    """`config("10m")`: 60 test and 120 training rows, on a machine whose speed is known."""
    rates = Rates("remembered", "remembered: for this test", 6e7, {"any": 12e7}, 2.0)
    monkeypatch.setattr(within, "rates_of", lambda *_, **__: rates)
    write_rows(tmp_path / "data", train=120, test=60)
    few = {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [2], "seeds": [0]}}

    def made(time: str, *sets: str) -> ExperimentConfig:
        return read_config(project(strategies=few), [f"within={time}", *sets])

    return made


def fitted(config: ExperimentConfig, out: Path, **options: Any) -> ExperimentConfig:
    return within.fit_within(config, out, Silent(), began=time.time(), on="local:1", **options)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("45", 45), (" 2 m ", 120), ("30000000000", None)]
)
def test_times(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="a time such as 90s, 10m or"):
            seconds_of(text)
    else:
        assert seconds_of(text) == seconds


@given(st.text(max_size=8))
def test_no_text_is_more_than_a_time_or_an_error(text: str) -> None:
    try:
        assert 1 <= seconds_of(text) <= 30 * 24 * 3600
    except ValueError as error:
        assert "a time such as" in str(error)


def test_more_time_gives_a_superset_of_the_rows(config: Callable[..., ExperimentConfig], tmp_path: Path) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    for time_ in ("60s", "2m", "4m", "8m"):
        data = read_data(fitted(config(time_), tmp_path / "run"))
        seen.append(({row.id for row in data.test}, {row.id for row in data.train}))
    for (test, train), (more_test, more_train) in itertools.pairwise(seen):
        assert test <= more_test
        assert train <= more_train
    assert len(seen[0][0]) >= 16
    assert len(seen[0][0]) < len(seen[-1][0])
    assert len(seen[0][1]) < len(seen[-1][1])


def test_what_fits_whole_is_not_cut(config: Callable[..., ExperimentConfig], tmp_path: Path) -> None:
    given_, chosen = config("24h"), fitted(config("24h"), tmp_path / "run")
    assert chosen.data == given_.data
    assert len(chosen.tune.eval_steps(chosen.tune.total_steps(120))) <= within.MOST_POINTS


def test_too_little_time_says_how_much_it_takes_and_that_is_true(
    config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        fitted(config("10s"), tmp_path / "run")
    error = raised.value
    assert (error.where, error.found) == ("--within", "10s")
    assert "16 test rows and 32 training rows" in str(error.expected)
    assert not (tmp_path / "run").exists()
    least = str(error.expected).split()[2].rstrip(":")
    assert fitted(config(least), tmp_path / "run").data.test_sample == 16


def test_there_are_rows_to_choose_the_demonstrations_from(
    config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    many = ["strategies.few_shot.k=[50]"]
    chosen = fitted(config("8m", *many), tmp_path / "run")
    check_pool(chosen, read_data(chosen))
    assert chosen.data.train_rows is None or chosen.data.train_rows >= 100


def test_a_lock_that_is_torn_is_left_to_the_run(config: Callable[..., ExperimentConfig], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for text in ("{", '{"config": {"within": "60s", "data": 3}}', '{"config": []}'):
        (tmp_path / "run" / "run.lock.json").write_text(text, encoding="utf-8")
        assert fitted(config("60s"), tmp_path / "run").data.test_sample


def test_a_run_keeps_its_sizes_and_says_them(
    config: Callable[..., ExperimentConfig], tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = fitted(config("60s"), tmp_path / "run")
    record = run_experiment(chosen, tmp_path / "run")
    assert record.cells[0].aggregate.n_rows == chosen.data.test_sample
    assert any(
        f"{chosen.data.test_sample} of 60 test rows" in line and "60s" in line and "wider" in line
        for line in record.warnings
    )
    fast = Rates("remembered", "twice as fast", 24e7, {"any": 48e7}, 1.0)
    monkeypatch.setattr(within, "rates_of", lambda *_, **__: fast)
    assert fitted(config("60s"), tmp_path / "run") == chosen
    assert fitted(config("60s"), tmp_path / "other") != chosen
    assert fitted(config("60s"), tmp_path / "run", fresh=True) != chosen
    assert read_json(tmp_path / "run" / "run.lock.json")["config"]["within"] == "60s"
