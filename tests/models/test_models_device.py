"""Threads: timed only where there is a choice."""

from __future__ import annotations

import os
import time

import pytest
import torch

from triptych.models.device import choose_threads


@pytest.mark.parametrize(
    ("environment", "cores", "asked", "chosen"),
    [
        (None, 1, None, (1, "all there are")),
        ("1", 8, None, (1, "OMP_NUM_THREADS")),
        (" 1,4", 8, None, (1, "OMP_NUM_THREADS")),
        ("4", 1, None, (1, "all there are")),
        ("1", 8, 3, (3, "asked for")),
    ],
)
def test_nothing_is_timed_where_there_is_no_choice(
    environment: str | None, cores: int, asked: int | None, chosen: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(time, "perf_counter", None)
    assert choose_threads(asked, torch.float32) == chosen
    assert torch.get_num_threads() == chosen[0]


@pytest.mark.parametrize("environment", [None, "", "0", "none", "-1", "99"])
def test_other_values_of_the_environment_leave_the_choice(
    environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(torch.nn.functional, "linear", lambda a, _: a)
    assert choose_threads(None, torch.float32)[1].startswith("timed (1: ")
