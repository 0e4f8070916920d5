"""`triptych plan` as a user meets it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triptych.cli.plan import bytes_of
from triptych.errors import ConfigError

pytestmark = pytest.mark.usefixtures("quickly_timed")


def test_a_table_for_people(triptych: Any, project: Any) -> None:
    done = triptych("plan", project.config)
    assert done.code == 0, done.err
    for part in ("zero_shot/default", "few_shot/default/k=3", "qlora/default", "together", "memory:", "disk", "time:"):
        assert part in done.out
    assert "✓" in done.out
    assert not (project.folder / "runs").exists()


def test_json_for_programs(triptych: Any, project: Any) -> None:
    done = triptych("plan", project.config, "--json", "--memory", "8GiB")
    plan = json.loads(done.out)  # nothing else on stdout
    assert len(plan["cells"]) == 9
    assert plan["memory"][0]["available"] == 8 << 30
    assert plan["trainings"][0]["steps"] == 8


def test_what_is_done_already(triptych: Any, finished: Any) -> None:
    project, folder, _ = finished
    plan = json.loads(triptych("plan", project.config, "--out", folder, "--json").out)
    assert all(cell["done"] for cell in plan["cells"])
    assert plan["seconds_left"] == 0
    more = json.loads(
        triptych("plan", project.config, "--out", folder, "--json", "--set", "strategies.few_shot.k=[1,5]").out
    )
    assert [cell["name"] for cell in more["cells"] if not cell["done"]] == [
        f"few_shot/default/k=5/draw=item/seed={seed}" for seed in (0, 1)
    ]


@pytest.mark.parametrize("memory", ["much", "8 XiB", "-1", "0", "8i"])
def test_a_memory_that_is_none(triptych: Any, project: Any, memory: str) -> None:
    done = triptych("plan", project.config, f"--memory={memory}")
    assert done.code == 2
    assert "this is no amount of memory" in done.err
    assert "8GiB" in done.err


def test_errors_are_those_of_a_run(triptych: Any, project: Any) -> None:
    done = triptych("plan", project.config, "--set", "tune.epoch=3")
    assert done.code == 2
    assert "epochs" in done.err


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("24GB", 24 * 10**9),
        ("24 g", 24 * 10**9),
        ("1.5 TiB", 3 << 39),
        ("500m", 5 * 10**8),
        ("7", 7),
    ],
)
def test_bytes(text: str, size: int) -> None:
    assert bytes_of(text) == size


def test_no_bytes() -> None:
    with pytest.raises(ConfigError):
        bytes_of("GiB")
