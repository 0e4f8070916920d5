"""`triptych preview` and `triptych reproduce` as a user meets them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Triptych = Callable[..., Any]


def test_rows_and_checks(triptych: Triptych, project: Any, tmp_path: Path) -> None:
    done = triptych("preview", project.config, "--out", tmp_path / "none")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("✓") == 10
    assert "zero_shot/default   row test-0" in done.out
    assert "demonstrations train-" in done.out
    scored = [line for line in done.out.splitlines() if "▌" in line]
    assert any("<eos>" in line and "257" in line for line in scored)
    assert not any("USER:" in line for line in scored)
    assert "tokens more (--full)" in done.out
    full = triptych("preview", project.config, "--full", "--cell", "few_shot/default/k=3/draw=item/seed=1")
    assert full.code == 0
    assert "tokens more" not in full.out
    assert "第3個例子" in full.out.replace("\n", "") or "第" in full.out


def test_a_failed_check_is_exit_code_2_after_all_of_them_are_shown(triptych: Triptych, project: Any) -> None:
    done = triptych("preview", project.config, "--set", "prompts.default=<bos>問{instruction}答", "--rows", "0")
    assert done.code == 2
    assert done.out.count("✗") == 1
    assert done.out.count("✓") == 9
    assert "take <bos> out of the template" in done.err
    assert "Traceback" not in done.err


def test_a_warning_is_no_failure(triptych: Triptych, project: Any) -> None:
    rows = json.loads(project.test.read_text(encoding="utf-8"))
    rows[1]["output"] = "甲<eos>乙"
    project.test.write_text(json.dumps(rows), encoding="utf-8")
    done = triptych("preview", project.config, "--rows", "0")
    assert done.code == 0
    assert "⚠ no text of a special token in the data: <eos> in 1 row test-1" in done.out


def test_preview_as_json(triptych: Triptych, project: Any) -> None:
    done = triptych("preview", project.config, "--json")
    value = json.loads(done.out)
    assert (done.code, value["passed"], len(value["checks"])) == (0, True, 10)
    assert len(value["rows"]) == 7


def test_reproduce_a_run(triptych: Triptych, finished: Any, tmp_path: Path) -> None:
    _, run, _ = finished
    done = triptych("reproduce", run, "--out", tmp_path / "again")
    assert (done.code, done.err) == (0, "")
    assert "exact: every number came out again, bit by bit" in done.out
    assert done.out.splitlines()[-1] == f"computed again in {tmp_path / 'again'}"
    for name in ("torch", "processor", "test file", "prompt `emotional`", "model weights", "git commit"):
        assert name in done.out


def test_what_moved_is_exit_code_1(triptych: Triptych, finished: Any, tmp_path: Path) -> None:
    project, run, _ = finished
    shutil.copytree(project.folder, tmp_path / "data")
    rows = json.loads((tmp_path / "data" / "test.json").read_text(encoding="utf-8"))
    rows[0]["instruction"] += "？"
    (tmp_path / "data" / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    given = ("reproduce", run, "--data", tmp_path / "data")
    check = triptych(*given, "--only-check")
    assert check.code == 1
    assert "nothing was recomputed" in check.out
    done = triptych(*given, "--out", tmp_path / "again", "--cells", "zero_shot/default")
    assert done.code == 1
    assert "different: numbers moved" in done.out
    assert "test file" in done.out.split("Numbers")[1]


def test_reproduce_as_json_keeps_stdout_clean(triptych: Triptych, finished: Any, tmp_path: Path) -> None:
    _, run, _ = finished
    done = triptych("reproduce", run, "--out", tmp_path / "again", "--cells", "zero_shot/default", "--json")
    value = json.loads(done.out)
    assert (done.code, value["verdict"], value["cells"][0]["cell"]) == (0, "exact", "zero_shot/default")
    assert {fact["status"] for fact in value["facts"]} <= {"same", "unknown"}


def test_no_run_is_exit_code_2(triptych: Triptych, tmp_path: Path) -> None:
    done = triptych("reproduce", tmp_path)
    assert done.code == 2
    assert "this folder holds no run" in done.err
