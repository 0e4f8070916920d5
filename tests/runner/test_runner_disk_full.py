"""A disk that is full after any number of bytes: one clear error, and the same command then ends with its numbers."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import DiskError
from triptych.records.store import read_run
from triptych.runner import results
from triptych.runner.run import run_experiment

CELLS = {"zero_shot": {"prompts": ["default"]}, "few_shot": None, "qlora": {"prompt": "default"}}
SETTINGS = {
    "strategies": CELLS,
    "tune": {"epochs": 1, "eval_every": 2},
    "generate": {"cells": "all", "rows": 2, "max_new_tokens": 3},
}


class Disk:
    """Counts what is written through `Path.open`, and is full after `room` bytes."""

    def __init__(self, patch: pytest.MonkeyPatch, room: float = float("inf")) -> None:
        self.room, self.written = room, 0
        real = Path.open

        def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            file = real(path, mode, *rest, **options)
            return _Counted(file, self) if set(mode) & set("wa+") else file

        patch.setattr(Path, "open", opened)

    def write(self, n: int) -> None:
        self.written += n
        if self.written > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")


class _Counted:
    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, content: Any) -> Any:
        self._disk.write(len(content))
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def numbers(out: Path) -> Any:
    record = read_run(out)
    curve = [point.model_dump(exclude={"seconds"}) for point in record.curve]
    texts = [one.row_chrf for one in record.generations]
    return (
        {cell.cell: cell.aggregate for cell in record.cells},
        curve,
        texts,
        record.tune and record.tune.adapter_sha256,
    )


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, write_experiment: Callable[..., Path]
) -> tuple[Path, int, Any]:
    """The settings, the bytes that a run of them writes, and its numbers."""
    folder = tmp_path_factory.mktemp("full")
    path = write_experiment(folder, model_folder, **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "build_report", read_run)
        disk = Disk(patch)
        run_experiment(read_config(path), folder / "run")
    return path, disk.written, numbers(folder / "run")


@pytest.mark.parametrize(
    "share", [0.4, *(pytest.param(n / 9, marks=pytest.mark.slow) for n in (0, 1, 2, 3, 5, 6, 7, 8, 8.9))]
)
def test_a_disk_that_is_full_after_so_many_bytes(
    share: float, undisturbed: tuple[Path, int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written, expected = undisturbed
    monkeypatch.setattr(results, "build_report", read_run)
    with monkeypatch.context() as patch:
        Disk(patch, room=share * written)
        with pytest.raises(DiskError, match=r"disk is full[\s\S]*free some room and run the same command again"):
            run_experiment(read_config(path), tmp_path / "run")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").glob("cells/*.json")}
    run_experiment(read_config(path), tmp_path / "run")
    assert numbers(tmp_path / "run") == expected
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert not list((tmp_path / "run").rglob("*.tmp"))
