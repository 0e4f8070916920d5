"""Checkpoints: all that is needed to go on as if nothing had happened, written whole or not at all.

    checkpoints/step-000120/
        adapter.safetensors      float32 A and B, and DoRA's magnitudes
        optimizer.safetensors    AdamW's two moments for each, and the random generators' states
        state.json               step, sums since the last curve point, seconds, SHA-256 of the two files above

The folder is made under another name, flushed and renamed. A checkpoint whose hashes don't hold is passed over for the
one before it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from triptych.errors import DataError
from triptych.models import Adapter
from triptych.records.store import disk_errors, read_json, write_bytes, write_json

__all__ = ["TrainState", "latest_checkpoint", "restore", "save_checkpoint"]

logger = logging.getLogger(__name__)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class TrainState:
    """Where training stands."""

    step: int = 0
    """Optimizer steps done."""
    rows_seen: int = 0
    n_tokens: int = 0
    n_scored: int = 0
    seconds: float = 0.0
    """Training time, evaluation left out."""
    nll_since_point: float = 0.0
    scored_since_point: int = 0


def save_checkpoint(
    folder: Path, state: TrainState, adapter: Adapter, optimizer: torch.optim.Optimizer, *, keep: int
) -> None:
    """Write a checkpoint and keep the newest `keep` up to it: later ones are torn, or of a course that was given up."""
    final = folder / f"step-{state.step:06d}"
    work = folder / f".{final.name}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    parameters = adapter.parameters()
    moments = {"rng": torch.get_rng_state()}
    if (cuda := _cuda_of(adapter)) is not None:
        moments["rng_cuda"] = torch.cuda.get_rng_state(cuda)
    for name, parameter in parameters.items():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                moments[f"{name}:{moment}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    files = {
        "adapter.safetensors": save({name: p.detach().cpu().contiguous() for name, p in parameters.items()}),
        "optimizer.safetensors": save(moments),
    }
    with disk_errors(final):
        try:
            for name, content in files.items():
                write_bytes(work / name, content)
            hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            write_json(work / "state.json", {"state": asdict(state), "sha256": hashes})
            if final.exists():
                shutil.rmtree(final)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    there = _checkpoints(folder)
    at = there.index(final)
    for old in (*there[:at], *there[at + keep :]):
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> tuple[Path, TrainState] | None:
    """The newest checkpoint that is whole; broken ones are named and passed over."""
    for path in _checkpoints(folder):
        try:
            return path, _verify(path)
        except (DataError, OSError, KeyError, TypeError) as error:
            why = error.what if isinstance(error, DataError) else error
            logger.warning("checkpoint %s is not whole (%s): going on from the one before", path, why)
    return None


def restore(path: Path, adapter: Adapter, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights, moments and random state back.

    Raises:
        DataError: the checkpoint is for another adapter.
    """
    try:
        weights = load_file(path / "adapter.safetensors")
        moments = load_file(path / "optimizer.safetensors")
    except SafetensorError as error:
        raise DataError("a checkpoint can't be read", where=str(path), found=str(error)) from error
    parameters = adapter.parameters()
    if set(weights) != set(parameters) or any(weights[n].shape != p.shape for n, p in parameters.items()):
        raise DataError(
            "a checkpoint is of another adapter",
            where=str(path),
            fix="train into another folder, or start over with --fresh",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            found: dict[str, Any] = {}
            for moment in _MOMENTS:
                if (tensor := moments.get(f"{name}:{moment}")) is not None:
                    found[moment] = tensor.to(parameter.device)  # the fused kernel wants the step there too
            if found:
                optimizer.state[parameter] = found
    torch.set_rng_state(moments["rng"])
    # one that was written on a CPU has none: dropout then goes on from the seed
    if (cuda := _cuda_of(adapter)) is not None and "rng_cuda" in moments:
        torch.cuda.set_rng_state(moments["rng_cuda"], cuda)


def _cuda_of(adapter: Adapter) -> torch.device | None:
    """The GPU that dropout is drawn on, if it is one."""
    device = next(iter(adapter.parameters().values())).device
    return device if device.type == "cuda" else None


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _verify(path: Path) -> TrainState:
    record = read_json(path / "state.json")
    for name, expected in record["sha256"].items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise DataError(f"{name} does not match its hash")
    return TrainState(**record["state"])
