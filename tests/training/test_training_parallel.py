"""Several processes under torchrun are one training: the same numbers, one writer, one mind."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_training_kill import log_of, numbers_of

from triptych.errors import ConfigError
from triptych.prompts import Rendered
from triptych.training import World, current_world, process_group
from triptych.training.parallel import share_of

if TYPE_CHECKING:
    from triptych.models import LoadedModel

HERE = Path(__file__).parent
WORKER = HERE / "parallel_worker.py"
CONFIG = {"r": 2, "batch_size": 4, "epochs": 2, "lr": 0.01, "eval_every": 4}

Ranks = Callable[..., list[str]]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": paths}


@pytest.fixture(scope="module")
def forker() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)


@pytest.fixture
def ranks(tmp_path: Path, fake_folder: Callable[..., Path], forker: subprocess.Popen[str]) -> Ranks:
    """`ranks(name, n, what=, **config)`: train in n real processes; what each rank said at its end."""

    def run(name: str, n: int, what: str = "nothing", **config: Any) -> list[str]:
        asked = {"ranks": n, "folder": str(tmp_path / name), "model": str(fake_folder("llama", scale=0.1))}
        assert forker.stdin is not None
        assert forker.stdout is not None
        forker.stdin.write(json.dumps({**asked, "config": {**CONFIG, **config}, "what": what}) + "\n")
        forker.stdin.flush()
        assert json.loads(forker.stdout.readline()) == [0] * n
        return [(tmp_path / f"{name}.rank{rank}").read_text() for rank in range(n)]

    return run


def weights(folder: Path) -> torch.Tensor:
    found = load_file(folder / "adapter" / "adapter_model.safetensors")
    return torch.cat([found[name].double().flatten() for name in sorted(found)])


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_two_processes_are_one(ranks: Ranks, tmp_path: Path) -> None:
    one, two = ranks("one", 1), ranks("two", 2)
    assert two[0] == two[1]  # the same adapter, curve and choice on both
    assert two[0].split()[1:] == one[0].split()[1:]
    assert apart(weights(tmp_path / "two"), weights(tmp_path / "one")) < 1e-6
    pairs = list(zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True))
    assert len(pairs) == 10
    for single, double in pairs:
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert double["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-4)
        for name in ("step", "lr", "n_tokens", "n_scored"):
            assert double[name] == single[name]
    [alone, shared] = [numbers_of(tmp_path / name, "summary.json") for name in ("one", "two")]
    assert (alone["chosen"]["ranks"], shared["chosen"]["ranks"]) == (1, 2)
    assert alone["scored_tokens"] == shared["scored_tokens"]
    ppl = [
        [point["aggregate"]["ppl_mean"] for point in numbers_of(tmp_path / name, "curve.json")["points"]]
        for name in ("one", "two")
    ]
    assert ppl[1] == pytest.approx(ppl[0], rel=1e-5)


@pytest.mark.slow
def test_torchrun_starts_them(ranks: Ranks, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    ranks("forked", 2)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(WORKER, tmp_path / "torchrun", fake_folder("llama", scale=0.1), config, "nothing"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.equal(weights(tmp_path / "torchrun"), weights(tmp_path / "forked"))


def test_asked_to_stop_on_one_rank_all_stop_and_go_on_exactly(ranks: Ranks, tmp_path: Path) -> None:
    options = {"dropout": 0.2, "select": "dev"}
    whole = ranks("whole", 2, **options)
    stopped = ranks("broken", 2, "stop", **options)
    assert all(said.startswith("Interrupted: stopped after step 5 of 10, which is saved") for said in stopped)
    assert (tmp_path / "broken" / "checkpoints" / "step-000005").is_dir()
    assert ranks("broken", 2, **options) == whole
    assert torch.equal(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
    assert numbers_of(tmp_path / "broken", "curve.json") == numbers_of(tmp_path / "whole", "curve.json")


@pytest.mark.parametrize(
    ("what", "first", "second"),
    [
        ("ruin", "DivergedError: training diverged at step 4 of 10: loss nan", None),
        ("disk", "DiskError: the disk is full", "TriptychError: rank 0 stopped, and rank 1 with it: the disk is full"),
    ],
)
def test_what_stops_one_rank_stops_all(what: str, first: str, second: str | None, ranks: Ranks) -> None:
    said = ranks("broken", 2, what)
    assert said[0].startswith(first)
    assert said[1].startswith(second or first)


@given(lengths=st.lists(st.integers(3, 300), max_size=40), size=st.integers(1, 5))
def test_shares_are_of_like_size_and_lose_no_row(lengths: list[int], size: int) -> None:
    rows = [Rendered(f"row-{i}", tuple(range(n)), 1, 1) for i, n in enumerate(lengths)]
    shares = [share_of(rows, World(rank, size)) for rank in range(size)]
    assert sorted(row.row_id for share in shares for row in share) == sorted(row.row_id for row in rows)
    tokens = [sum(len(row.ids) for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


def test_shares_do_not_depend_on_the_order_of_rows(
    load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]]
) -> None:
    rows = rendered(load_fake("llama"), 12)
    assert share_of(rows, World(1, 3)) == share_of(rows[::-1], World(1, 3))


def test_who_we_are_stands_in_the_environment() -> None:
    assert current_world({}) == World(0, 1)
    assert current_world({"RANK": "2", "WORLD_SIZE": "4"}) == World(2, 4)
    for wrong in (
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "x", "WORLD_SIZE": "4"},
        {"RANK": "-1", "WORLD_SIZE": "4"},
    ):
        with pytest.raises(ConfigError, match=r"RANK=.*WORLD_SIZE=4[\s\S]*torchrun"):
            current_world(wrong)


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with process_group() as world:
        assert not torch.distributed.is_initialized()
        assert (world.broadcast("x"), world.any(True), world.any(False), world.sum(1.5)) == ("x", True, False, 1.5)
        assert math.isnan(world.sum(math.nan))
        assert world.on_rank0(lambda: 3) == 3
