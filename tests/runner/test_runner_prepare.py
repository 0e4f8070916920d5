"""What needs only settings, rows and tokenizer is checked before the weights are identified, and so downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.checks.preview import preview
from triptych.config.read import read_config
from triptych.errors import InputError, ModelError, RunChangedError
from triptych.grid import rows
from triptych.models.header import read_header
from triptych.plan import plan
from triptych.runner import prepare
from triptych.runner.run import run_experiment

Project = Callable[..., Path]


@pytest.fixture
def identified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were identified."""
    names: list[str] = []
    real = prepare.identify

    def recorded(spec: Any) -> Any:
        names.append(spec.name)
        return real(spec)

    monkeypatch.setattr(prepare, "identify", recorded)
    return names


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A finished run of one's own: (its YAML, its folder)."""
    shutil.copytree(undisturbed.parent, tmp_path / "copy")
    return tmp_path / "copy" / "experiment.yaml", tmp_path / "copy" / "run"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_tokens=16", "longer than 16 tokens"),
        ("tune.max_tokens=50", "nothing is left to train on"),
        ("prompts.default=<bos>{instruction}", "occurs again after the start"),
        ("strategies.few_shot.k=[99]", "more demonstrations are asked for"),
    ],
)
@pytest.mark.parametrize("folder_is_there", [False, True])
def test_no_weights_are_identified_for_rows_that_fail(
    setting: str, message: str, folder_is_there: bool, project: Project, tmp_path: Path, identified: list[str]
) -> None:
    out = tmp_path / "run"
    if folder_is_there:
        out.mkdir()
    with pytest.raises(InputError, match=message):
        run_experiment(read_config(project(), [setting]), out)
    assert identified == []
    assert out.exists() == folder_is_there
    assert not (out / "run.lock.json").exists()


def test_no_weights_are_identified_for_a_folder_of_other_settings(
    finished: tuple[Path, Path], identified: list[str]
) -> None:
    path, out = finished
    with pytest.raises(RunChangedError, match=r"config\.max_tokens"):
        run_experiment(read_config(path, ["max_tokens=16"]), out)
    assert identified == []


def test_a_finished_run_renders_nothing_and_a_torn_cell_is_checked(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    path, out = finished
    rendered: list[Any] = []
    real = prepare.render_experiment
    monkeypatch.setattr(prepare, "render_experiment", lambda *given: rendered.append(given) or real(*given))
    run_experiment(read_config(path), out)
    assert rendered == []
    (out / "cells" / "zero_shot__default.json").write_text("{", encoding="utf-8")
    assert len(run_experiment(read_config(path), out).cells) == 9
    assert len(rendered) == 1


def test_a_tokenizer_that_changes_before_the_model_is_identified(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prepare.identify
    monkeypatch.setattr(prepare, "identify", lambda spec: {**real(spec), "tokenizer_sha256": "ab" * 32})
    with pytest.raises(ModelError, match=r"tokenizer was changed[\s\S]*another tokenizer_sha256"):
        run_experiment(read_config(project()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_preview_plan_and_the_checks_of_a_run_read_a_models_header_alone(
    project: Project, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GGUF file, say, which is dequantized as a whole when anything but its header is asked for."""
    config = read_config(project(), ["model.name=/no/such/model.gguf"])
    header = read_header(read_config(project()).model)
    for module in (rows, plan):
        monkeypatch.setattr(module, "read_header", lambda _: header)
    assert preview(config).as_json()["passed"]
    assert plan.plan_experiment(config, tmp_path / "run").cells
    rendered: list[Any] = []
    real = prepare.render_experiment
    monkeypatch.setattr(prepare, "render_experiment", lambda *given: rendered.append(given) or real(*given))
    with pytest.raises(ModelError, match="no such GGUF file"):  # by `identify`
        run_experiment(config, tmp_path / "run")
    assert len(rendered) == 1
