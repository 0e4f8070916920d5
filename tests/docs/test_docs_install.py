"""Installing from a wheel, as README says it, in an environment that has nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_installs_with_pipx_and_scores(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", ".bench-venv", "runs", "site", "dist", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignored)

    def run(*command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=source,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    python = tmp_path / "tools" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "tools")
    run(python, "-m", "pip", "install", "--quiet", "pipx")
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", ".")
    (wheel,) = (source / "dist").glob("triptych-*.whl")
    home = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run(python, "-m", "pipx", "install", f"{wheel}[demo]", "--pip-args=--constraint constraints.txt", **home)

    triptych = tmp_path / "bin" / "triptych"
    assert run(triptych, "--version").startswith("triptych ")
    assert "emotional" in run(triptych, "prompts", "list")
    rows = [{"id": "a", "instruction": "翻譯成文言文：春天睡得很香。", "output": "春眠不覺曉。"}]
    (source / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    run(triptych, "score", "--model", "demo", "--data", "rows.json", "--out", "scores.json")
    scores = json.loads((source / "scores.json").read_text(encoding="utf-8"))
    assert scores["aggregate"]["n_rows"] == 1
    assert scores["aggregate"]["ppl_mean"] > 1
