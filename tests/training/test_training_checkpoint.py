"""A checkpoint is whole or it is passed over; a full disk costs no older one."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from triptych.errors import DataError, DiskError, RunChangedError
from triptych.records.identity import MadeFrom
from triptych.training.checkpoint import TrainState, latest_checkpoint, restore, save_checkpoint, versions_of

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel

FILES = ["adapter.safetensors", "optimizer.safetensors", "state.json"]


def stepped(adapter: Adapter, seed: int) -> torch.optim.AdamW:
    """An optimizer that has done two steps with made-up gradients."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.01, fused=True)
    for _ in range(2):
        for parameter in adapter.parameters().values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return optimizer


def values(adapter: Adapter, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {name: p.detach().clone() for name, p in adapter.parameters().items()}
    for name, parameter in adapter.parameters().items():
        for moment, value in optimizer.state[parameter].items():
            found[f"{name}:{moment}"] = value.clone()
    return found


@pytest.fixture(scope="module")
def adapter(adapted: Callable[..., tuple[LoadedModel, Adapter]]) -> Adapter:
    return adapted("llama")[1]


@pytest.fixture
def saved(adapter: Adapter, tmp_path: Path) -> Path:
    """Three checkpoints, of steps 2, 4 and 6."""
    optimizer = stepped(adapter, 0)
    for step in (2, 4, 6):
        save_checkpoint(tmp_path, TrainState(step=step, rows_seen=10 * step), adapter, optimizer, keep=3)
    return tmp_path


def test_a_checkpoint_of_something_else_is_refused_and_its_versions_are_kept(adapter: Adapter, tmp_path: Path) -> None:
    ours, other = MadeFrom({"model": {"config_sha256": "a"}, "lr": 0.1}), MadeFrom({"model": {}, "lr": 0.2})
    optimizer = stepped(adapter, 0)
    save_checkpoint(tmp_path, TrainState(step=2), adapter, optimizer, keep=2, made_from=ours, versions={"torch": "2.0"})
    path, state = latest_checkpoint(tmp_path, ours) or pytest.fail("no checkpoint")
    assert (state.step, versions_of(path)) == (2, {"torch": "2.0"})
    with pytest.raises(RunChangedError, match=r"this checkpoint[\s\S]*lr: 0\.1 -> 0\.2[\s\S]*config_sha256: a -> "):
        latest_checkpoint(tmp_path, other)
    save_checkpoint(tmp_path, TrainState(step=4), adapter, optimizer, keep=1)
    with pytest.raises(RunChangedError, match="does not record what it was made from"):
        latest_checkpoint(tmp_path, ours)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(adapter: Adapter, adapted: Callable[..., tuple[LoadedModel, Adapter]], tmp_path: Path) -> None:
    optimizer = stepped(adapter, 5)
    torch.manual_seed(42)
    torch.rand(3)
    state = TrainState(7, 70, 700, 77, 1.5, 0.25, 3)
    save_checkpoint(tmp_path, state, adapter, optimizer, keep=2)
    expected, drawn = values(adapter, optimizer), torch.rand(5)

    _, other = adapted("llama")
    other_optimizer = torch.optim.AdamW(other.parameters().values(), lr=0.01, fused=True)
    path, found = latest_checkpoint(tmp_path) or pytest.fail("no checkpoint")
    restore(path, other, other_optimizer)
    assert path.name == "step-000007"
    assert found == state
    restored = values(other, other_optimizer)
    assert restored.keys() == expected.keys()
    assert all(torch.equal(restored[name], expected[name]) for name in expected)
    assert torch.equal(torch.rand(5), drawn)  # dropout goes on where it was


def test_none_yet(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["half", "empty", "gone", "changed"])
def test_a_torn_checkpoint_is_named_and_passed_over(
    name: str, harm: str, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = saved / "step-000006" / name
    content = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        file.write_bytes({"half": content[:middle], "empty": b"", "changed": flipped}[harm])
    with caplog.at_level(logging.WARNING):
        path, state = latest_checkpoint(saved) or pytest.fail("the one before is whole")
    assert path.name == "step-000004"
    assert (state.step, state.rows_seen) == (4, 40)
    [message] = caplog.messages
    assert "step-000006 is not whole" in message
    assert "\n" not in message


def test_all_torn_is_none(saved: Path) -> None:
    for path in saved.iterdir():
        (path / "state.json").unlink()
    assert latest_checkpoint(saved) is None


def test_a_later_checkpoint_that_was_passed_over_pushes_no_whole_one_out(saved: Path, adapter: Adapter) -> None:
    (saved / "step-000006" / "adapter.safetensors").write_bytes(b"torn")
    save_checkpoint(saved, TrainState(step=5), adapter, stepped(adapter, 0), keep=1)
    assert names(saved) == ["step-000005"]
    assert latest_checkpoint(saved) is not None


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_are_kept(keep: int, adapter: Adapter, tmp_path: Path) -> None:
    optimizer = stepped(adapter, 0)
    for step in (9, 10, 11, 100):
        save_checkpoint(tmp_path, TrainState(step=step), adapter, optimizer, keep=keep)
    assert names(tmp_path) == ["step-000011", "step-000100"][-keep:]


def test_saving_a_step_again_replaces_it(saved: Path, adapter: Adapter) -> None:
    save_checkpoint(saved, TrainState(step=6, rows_seen=61), adapter, stepped(adapter, 1), keep=3)
    _, state = latest_checkpoint(saved) or pytest.fail("gone")
    assert state.rows_seen == 61
    assert len(names(saved)) == 3


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_disk_full_keeps_what_was_saved(
    failing: int, saved: Path, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    calls = 0
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskError, match=r"the disk is full[\s\S]*run the same command again"):
        save_checkpoint(saved, TrainState(step=8), adapter, stepped(adapter, 0), keep=1)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
    assert names(saved) == ["step-000002", "step-000004", "step-000006"]


def test_a_checkpoint_of_another_adapter_is_refused(
    saved: Path, adapted: Callable[..., tuple[LoadedModel, Adapter]]
) -> None:
    for other in (adapted("llama", r=2)[1], adapted("gpt2")[1]):
        optimizer: Any = torch.optim.AdamW(other.parameters().values())
        before = [p.detach().clone() for p in other.parameters().values()]
        with pytest.raises(DataError, match="another adapter"):
            restore(saved / "step-000006", other, optimizer)
        assert all(torch.equal(a, b) for a, b in zip(before, other.parameters().values(), strict=True))
