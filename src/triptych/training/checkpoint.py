"""Checkpoints: all that is needed to continue as if nothing had happened, written whole or not at all.

    checkpoints/step-000120/
        adapter.safetensors      float32 A and B, and DoRA's magnitudes
        optimizer.safetensors    AdamW's two moments for each, and the random generators' states
        state.json               step, sums since the last curve point, seconds, SHA-256 of the two files above, what
                                 the training is made from, versions of the libraries that worked on it

The folder is made under another name, flushed and renamed. A checkpoint whose hashes don't hold is passed over for the
one before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from triptych.errors import DataError
from triptych.models import Adapter
from triptych.records.disk import disk_errors, sha256_of_file
from triptych.records.identity import MadeFrom, require_same
from triptych.records.manifest import claim, remove
from triptych.records.run_files import CHECKPOINT_FILES
from triptych.records.store import read_json, write_bytes, write_json

logger = logging.getLogger(__name__)
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class TrainState:
    """How far training is."""

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
    folder: Path,
    state: TrainState,
    adapter: Adapter,
    optimizer: torch.optim.Optimizer,
    *,
    keep: int,
    made_from: MadeFrom | None = None,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint and keep the newest `keep` up to it: later ones are torn, or of an abandoned course.

    `made_from`: what decides the training. `versions`: of the libraries that worked on it so far.
    """
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
            made = made_from.record() if made_from else {}
            record = {"state": asdict(state), "sha256": hashes, **made, "versions": dict(versions or {})}
            write_json(work / "state.json", record)
            _remove(final)
            claim(*(final / name for name in CHECKPOINT_FILES))
            if final.exists():  # with something of the user's in it
                for name in CHECKPOINT_FILES:
                    (work / name).replace(final / name)
            else:
                work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    there = _checkpoints(folder)
    at = there.index(final)
    for old in (*there[:at], *there[at + keep :]):
        _remove(old)


def _remove(path: Path) -> None:
    """Remove a checkpoint's files, and its folder where it held nothing else."""
    for name in reversed(CHECKPOINT_FILES):  # state.json first: without it the others are no checkpoint
        remove(path / name)
    with contextlib.suppress(OSError):
        path.rmdir()


def latest_checkpoint(folder: Path, made_from: MadeFrom | None = None) -> tuple[Path, TrainState] | None:
    """The newest checkpoint that is whole; broken ones are named and passed over.

    Raises:
        RunChangedError: it is of a training that was made from something else than `made_from`.
    """
    for path in _checkpoints(folder):
        try:
            state = _verify(path)
            require_training(read_json(path / "state.json"), made_from, path / "state.json", "this checkpoint", folder)
            return path, state
        except (DataError, OSError, KeyError, TypeError) as error:
            why = error.what if isinstance(error, DataError) else error
            logger.warning("checkpoint %s is not whole (%s): continuing from the one before", path, why)
    return None


def versions_of(path: Path) -> dict[str, str]:
    """Of the libraries that worked on a training up to this checkpoint; empty where they were not recorded."""
    return {name: str(version) for name, version in read_json(path / "state.json").get("versions", {}).items()}


def require_training(stored: Any, made_from: MadeFrom | None, path: Path, what: str, folder: Path) -> None:
    """Check that a file of a training (its JSON: `stored`) was made from `made_from`; None: from anything.

    Raises:
        RunChangedError: it was made from something else; the way out is to delete `folder`.
    """
    if made_from is not None:
        fix = f"to train anew, delete {folder}; or give another folder with --out"
        require_same(stored, made_from, where=str(path), what=what, fix=fix)


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
            fix=f"to train anew, delete {path.parent.parent}; or give another folder with --out",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            of_parameter = {moment: moments.get(f"{name}:{moment}") for moment in _MOMENTS}
            # the fused kernel expects the step on the device too
            state = {moment: t.to(parameter.device) for moment, t in of_parameter.items() if t is not None}
            if state:
                optimizer.state[parameter] = state
    torch.set_rng_state(moments["rng"])
    # one that was written on a CPU has none: dropout is then drawn from the seed
    if (cuda := _cuda_of(adapter)) is not None and "rng_cuda" in moments:
        torch.cuda.set_rng_state(moments["rng_cuda"], cuda)


def _cuda_of(adapter: Adapter) -> torch.device | None:
    """The GPU that dropout is drawn on, if it is one."""
    device = next(iter(adapter.parameters().values())).device
    return device if device.type == "cuda" else None


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first. A folder without any of a checkpoint's files is none."""
    steps = sorted(folder.glob("step-*"), reverse=True)
    return [path for path in steps if any((path / name).exists() for name in CHECKPOINT_FILES)]


def _verify(path: Path) -> TrainState:
    record = read_json(path / "state.json")
    for name, expected in record["sha256"].items():
        if sha256_of_file(path / name) != expected:
            raise DataError(f"{name} does not match its hash")
    return TrainState(**record["state"])
