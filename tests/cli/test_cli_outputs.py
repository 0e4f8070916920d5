"""No command writes over what it reads, nor over what it did not write; over its own, it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.records.process_lock import ProcessLock

Triptych = Callable[..., Any]


@pytest.fixture
def files(project: Any, tmp_path: Path) -> dict[str, Path]:
    """Options that name files which are read, and the files."""
    named = {name: tmp_path / f"{name}.json" for name in ("data", "pool")}
    named["data"].write_bytes(project.test.read_bytes())
    named["pool"].write_bytes(project.train.read_bytes())
    named["template"] = tmp_path / "template.txt"
    named["template"].write_text("{instruction} =")
    return named


def options(files: dict[str, Path]) -> list[object]:
    return [part for name, path in files.items() for part in (f"--{name}", path)] + ["--limit", 2]


@pytest.mark.parametrize("command", ["score", "predict"])
@pytest.mark.parametrize("role", ["data", "pool", "template"])
@pytest.mark.parametrize("way", ["plain", "a link", "forced"])
def test_what_is_read_is_never_replaced(
    command: str, role: str, way: str, triptych: Triptych, project: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    before, out, force = files[role].read_bytes(), files[role], []
    if way == "a link":
        out = tmp_path / "link.json"
        out.symlink_to(files[role])
    elif way == "forced":
        force = ["--force" if command == "score" else "--fresh"]
    done = triptych(command, *project.given(), *options(files), "--out", out, *force)
    assert done.code == 2
    assert f"would replace what is read: --{role}" in done.err
    assert files[role].read_bytes() == before


def test_a_sample_of_a_file_is_the_file(triptych: Triptych, project: Any) -> None:
    done = triptych("score", *project.given(), "--data", f"{project.test}#2", "--out", project.test)
    assert (done.code, "would replace what is read: --data" in done.err) == (2, True)


def test_scores_replace_scores_and_nothing_else(triptych: Triptych, project: Any, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    command = ["score", *project.given(), "--data", project.test, "--limit", 1, "--out", out]
    out.write_text('{"mine": 1}')
    done = triptych(*command)
    assert (done.code, "--force to replace it" in done.err) == (2, True)
    assert out.read_text() == '{"mine": 1}'
    assert triptych(*command, "--force").code == 0
    assert triptych(*command).code == 0
    assert len(json.loads(out.read_text())["items"]) == 1


@pytest.mark.parametrize("beside", ["p.record.json", "p.jsonl.part"])
def test_files_beside_predictions_are_kept_too(beside: str, triptych: Triptych, project: Any, tmp_path: Path) -> None:
    (tmp_path / beside).write_text('{"mine": 1}\n')
    done = triptych("predict", *project.given(), "--data", project.test, "--limit", 1, "--out", tmp_path / "p.json")
    assert (done.code, beside in done.err) == (2, True)
    assert (tmp_path / beside).read_text() == '{"mine": 1}\n'


def test_a_model_is_not_replaced_even_by_force(triptych: Triptych, project: Any) -> None:
    config = project.model / "config.json"
    before = config.read_bytes()
    done = triptych("score", *project.given(), "--data", project.test, "--limit", 1, "--out", config, "--force")
    assert (done.code, "would replace what is read: --model" in done.err) == (2, True)
    assert config.read_bytes() == before


def test_predictions_that_another_process_writes(triptych: Triptych, project: Any, tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path, of="p.json")
    lock.acquire()
    done = triptych("predict", *project.given(), "--data", project.test, "--limit", 1, "--out", tmp_path / "p.json")
    lock.release()
    assert done.code == 2
    assert "another process is writing this file" in done.err
    assert "found: process " in done.err
    assert list(tmp_path.glob("*p.json*")) == []


def test_settings_do_not_replace_the_data_they_name(triptych: Triptych, project: Any) -> None:
    before = project.train.read_bytes()
    done = triptych("config", "init", "--train", project.train, "--out", project.train, "--force")
    assert (done.code, "would replace what is read: data.train" in done.err) == (2, True)
    assert project.train.read_bytes() == before
