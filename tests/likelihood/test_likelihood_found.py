"""What the probe found is remembered for the same model and code, with its reason, and for nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.errors import ModelError
from triptych.likelihood import found, probe
from triptych.likelihood.context import Unsupported
from triptych.likelihood.probe import can_be_packed
from triptych.models import LoadedModel, LoraSettings, attach_adapter
from triptych.models import cache as cache_module

Load = Callable[..., LoadedModel]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    monkeypatch.setattr(cache_module, "_warned", set())
    return tmp_path


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each time that a model is tried; its last decides how that ends."""
    times: list[str] = []

    def counted(loaded: LoadedModel, trial: Any) -> None:
        times.append(trial.name)

    monkeypatch.setattr(probe, "_on_itself", counted)
    monkeypatch.setattr(probe, "_on_small_copy", lambda *_: None)
    return times


def test_a_model_is_tried_once(load_fake: Load, tried: list[str]) -> None:
    for _ in range(2):
        assert can_be_packed(load_fake())
    assert tried == ["packed"]


def test_the_reason_is_remembered_and_said_again(
    load_fake: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tried: list[str]
) -> None:
    def refuses(*_: Any) -> None:
        tried.append("refused")
        raise Unsupported("it has 3 heads too many")

    monkeypatch.setattr(probe, "_on_small_copy", refuses)
    loaded = load_fake()
    for _ in range(2):
        caplog.clear()
        assert not can_be_packed(loaded)
        (said,) = caplog.messages
        assert "can't be computed packed (it has 3 heads too many)" in said
    assert tried == ["packed", "refused"]


def with_info(loaded: LoadedModel, **facts: Any) -> LoadedModel:
    return replace(loaded, info={**loaded.info, **facts})


@pytest.mark.parametrize(
    "fact", ["weights_sha256", "config_sha256", "dtype", "device", "quantize", "double_quant", "weights_held"]
)
def test_another_model_is_tried_anew(fact: str, load_fake: Load, tried: list[str]) -> None:
    loaded = load_fake()
    can_be_packed(loaded)
    can_be_packed(with_info(loaded, **{fact: "another"}))
    can_be_packed(loaded)
    assert len(tried) == 2


@pytest.mark.parametrize("changed", ["versions", "engine", "code", "processor"])
def test_other_versions_and_processors_are_tried_anew(
    changed: str, load_fake: Load, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.likelihood import cache as score_cache

    loaded = load_fake()
    can_be_packed(loaded)
    if changed == "versions":
        monkeypatch.setattr(score_cache, "library_versions", lambda: {"torch": "0.1", "transformers": "0.1"})
    elif changed == "engine":
        monkeypatch.setattr(found, "ENGINE", -1)
    elif changed == "code":
        monkeypatch.setattr(found, "_code", lambda _: "other lines")
    else:
        monkeypatch.setattr(found, "processor", lambda: "another one")
    can_be_packed(loaded)
    assert len(tried) == 2


def test_an_adapter_is_tried_on_its_own(load_fake: Load, tried: list[str]) -> None:
    loaded = load_fake()
    can_be_packed(loaded)
    adapter = attach_adapter(loaded, LoraSettings(r=2, alpha=2), seed=0)
    can_be_packed(loaded)
    with torch.no_grad():
        next(iter(adapter.parameters().values())).add_(1)
    can_be_packed(loaded)
    assert len(tried) == 3


def test_a_model_without_a_hash_is_always_tried(load_fake: Load, tried: list[str], cache: Path) -> None:
    loaded = replace(load_fake(), info={})
    for _ in range(2):
        can_be_packed(loaded)
    assert len(tried) == 2
    assert not (cache / "probes.json").exists()


def test_running_out_of_memory_is_not_remembered(
    load_fake: Load, monkeypatch: pytest.MonkeyPatch, tried: list[str], cache: Path
) -> None:
    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("can't allocate memory")

    loaded = load_fake()
    with monkeypatch.context() as patch:
        patch.setattr(probe, "_on_small_copy", fails)
        assert not can_be_packed(loaded)
    assert not (cache / "probes.json").exists()
    assert can_be_packed(loaded)


def test_a_model_that_cannot_be_used_is_refused_each_time(load_fake: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_fake()

    def fails(*_: Any, **__: Any) -> Any:
        raise TypeError("no such argument")

    monkeypatch.setattr(probe, "own_states", fails)
    for _ in range(2):
        with pytest.raises(ModelError, match="own forward fails"):
            can_be_packed(loaded)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"KEY": 3}', '{"KEY": {}}', '{"KEY": {"why_not": 1}}'])
def test_a_torn_memory_is_made_anew(content: str, load_fake: Load, tried: list[str], cache: Path) -> None:
    loaded = load_fake()
    key = found.key_of(loaded, "packed", probe._packed)
    (cache / "probes.json").write_text(content.replace("KEY", str(key)))
    for _ in range(2):
        assert can_be_packed(loaded)
    assert len(tried) == 1


def test_a_cache_that_cannot_be_written_is_one_warning(
    load_fake: Load, tried: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_fake()
    (cache / "file").write_text("")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(cache / "file"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert can_be_packed(loaded)
    assert len(tried) == 2
    assert sum("the cache can't be used" in line for line in caplog.messages) == 1


def test_the_newest_findings_stay(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(found, "_MOST", 3)
    for number in range(5):
        found.remember(str(number), None)
    assert list(json.loads((cache / "probes.json").read_text())) == ["2", "3", "4"]
    assert (found.remembered("4"), found.remembered("1")) == ((None,), None)
