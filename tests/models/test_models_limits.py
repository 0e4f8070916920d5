"""Numbers and expressions in a model's or an adapter's files that would take for ever are refused by name."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import load_profile
from triptych.models.adapter_checks import check_adapter_config, check_patterns
from triptych.models.header import check_config_sizes

NAMES = ["model.layers.0.self_attn.q_proj", "a" * 60 + "!"]


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers: 1,000,000"),
        ({"n_layer": 10**9}, "n_layer: 1,000,000,000"),
        ({"text_config": {"num_hidden_layers": 10**40}}, "digits"),
        ({"layer_types": ["a"] * 5000}, "num_hidden_layers: 5,000"),
        ({"num_local_experts": 10**6}, "num_local_experts"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"hidden_size": 10**9}, "hidden_size"),
    ],
)
def test_a_model_larger_than_any(config: dict[str, Any], found: str) -> None:
    with pytest.raises(ModelError, match="larger than any there is") as caught:
        check_config_sizes(config, "config.json")
    assert found in (caught.value.found or "")


def test_a_million_layers_of_a_folder(fake_folder: Any, tmp_path: Path) -> None:
    path = shutil.copytree(fake_folder("llama"), tmp_path / "m") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 10**6}))
    begin = time.monotonic()
    with pytest.raises(ModelError, match="larger than any there is") as caught:
        load_profile(ModelConfig(name=str(path.parent)))
    assert time.monotonic() - begin < 5
    assert caught.value.where == str(path)


def test_sizes_that_there_are() -> None:
    check_config_sizes({"num_hidden_layers": 126, "vocab_size": 262_144, "hidden_size": 16_384}, "llama")
    check_config_sizes({"n_routed_experts": 384, "max_window_layers": 70, "max_position_embeddings": 10_485_760}, "x")


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "rank_pattern", "layers_pattern"])
def test_an_expression_that_would_never_end(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.models.adapter_checks._PATTERN_SECONDS", 0.5)
    names = ["x." + "a" * 60 + "!"] if key != "target_modules" else NAMES
    text = r"(.|..)*z" if key != "layers_pattern" else "(a|aa)+"
    config = {key: {text: 8} if key == "rank_pattern" else text}
    begin = time.monotonic()
    with pytest.raises(ModelError, match="can't be used") as caught:
        check_patterns(config, names, Path("folder"))
    assert time.monotonic() - begin < 5
    assert key in (caught.value.found or "")
    assert "not through" in (caught.value.found or "")


def test_other_patterns(tmp_path: Path) -> None:
    check_patterns({"target_modules": r".*\.(q|v)_proj", "rank_pattern": {"q_proj": 4}, "r": 8}, NAMES, Path("f"))
    check_patterns({"target_modules": ["q_proj"]}, NAMES, Path("f"))
    with pytest.raises(ModelError) as caught:
        check_patterns({"target_modules": "(q_proj"}, NAMES, Path("f"))
    assert "not a regular expression" in (caught.value.found or "")
    with pytest.raises(ModelError, match="too large a rank"):
        check_patterns({"r": 10**9}, NAMES, Path("f"))
    (tmp_path / "adapter_config.json").write_text(" " * 20_000_000)
    with pytest.raises(ModelError, match="can't be read"):
        check_adapter_config(tmp_path)
