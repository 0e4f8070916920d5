"""`config init` writes a file that reads back as it was meant, every key in it; `config schema` describes them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from triptych.config.config_errors import section_of
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.config.starter import schema, starter_settings, starter_text, write_starter
from triptych.errors import ConfigError, ForeignFileError


def keys(model: type[BaseModel], at: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{at}{name}")
        if section := section_of(field.annotation):
            found |= keys(section, f"{at}{name}.")
    return found


def uncommented(text: str) -> str:
    return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)


def dotted(value: Any, at: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {f"{at}{key}" for key in value} | {
        inner for key, below in value.items() for inner in dotted(below, f"{at}{key}.")
    }


def test_every_key_is_in_it_with_its_default() -> None:
    text = starter_text({"strategies": {}})
    assert dotted(yaml.safe_load(uncommented(text))) >= keys(ExperimentConfig)
    defaults = ExperimentConfig()
    assert f"#lr: {yaml.safe_dump(defaults.tune.lr).split()[0]}" in text
    assert "# Hub id, folder, `.gguf` file, or a bundled model: `demo` or `demo-chat`." in text
    assert "One of nf4, int8, none." in text


def test_comments_are_comments() -> None:
    """Taking one `#` away, anywhere, leaves YAML."""
    lines = starter_text(starter_settings()).splitlines()
    for at, line in enumerate(lines):
        if re.match(r" *#\S", line) and not line.rstrip().endswith(":"):
            if any(re.match(r" *#\S.*:$", other) for other in _above(lines, at)):
                continue  # inside a section that is off
            yaml.safe_load("\n".join([*lines[:at], line.replace("#", "", 1), *lines[at + 1 :]]))


def _above(lines: list[str], at: int) -> list[str]:
    """Headings that the line stands under: commented, with fewer blanks after the mark."""
    depth = len(lines[at].replace("#", "", 1)) - len(lines[at].replace("#", "", 1).lstrip())
    found = []
    for line in reversed(lines[:at]):
        plain = line.replace("#", "", 1)
        indent = len(plain) - len(plain.lstrip())
        if plain.strip() and not line.lstrip().startswith("# ") and indent < depth:
            found.append(line)
            depth = indent
    return found


def test_the_sample_by_default(tmp_path: Path) -> None:
    write_starter(tmp_path / "exp.yaml", starter_settings())
    config = read_config(tmp_path / "exp.yaml")
    assert (config.model.name, config.data.dir) == ("demo", "sample")
    default = ExperimentConfig()
    assert config.strategies == default.strategies
    assert config.tune == default.tune


def test_paths_become_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "m").mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text("")
    settings = starter_settings(model="m", train="train.jsonl#50", test="owner/name:test")
    write_starter(Path("conf/exp.yaml"), settings)
    written = yaml.safe_load(Path("conf/exp.yaml").read_text())
    assert written["data"] == {"train": "../train.jsonl#50", "test": "owner/name:test"}
    config = read_config(Path("conf/exp.yaml"))
    assert config.data.train == "conf/../train.jsonl#50"
    assert Path(config.model.name).resolve() == tmp_path / "m"


def test_without_training_rows_only_zero_shot_is_run(tmp_path: Path) -> None:
    write_starter(tmp_path / "exp.yaml", starter_settings(test="owner/name"))
    strategies = read_config(tmp_path / "exp.yaml").strategies
    assert strategies.zero_shot is not None
    assert strategies.few_shot is strategies.qlora is None
    with pytest.raises(ConfigError, match="few_shot and qlora can't be run without training rows"):
        starter_settings(test="owner/name", strategies=["few_shot", "qlora"])


def test_strategies_by_name() -> None:
    settings = starter_settings(train="a", test="b", strategies=["qlora", "zero_shot"])
    assert list(settings["strategies"]) == ["zero_shot", "qlora"]
    for wrong in (["dpo"], []):
        with pytest.raises(ConfigError, match="strategy"):
            starter_settings(train="a", test="b", strategies=wrong)


def test_prompts_and_metrics_that_suit(tmp_path: Path) -> None:
    prompts = {"zero_shot": {"prompts": ["chat"]}, "few_shot": {"prompts": ["multiturn"]}, "qlora": {"prompt": "chat"}}
    settings = starter_settings(
        train="a", test="b", strategies=["few_shot", "qlora"], prompts=prompts, metrics=["accuracy", "perplexity"]
    )
    assert settings["strategies"]["few_shot"] == {"prompts": ["multiturn"], "k": [1, 2, 3, 10], "seeds": [0, 1, 2]}
    write_starter(tmp_path / "exp.yaml", settings)
    config = read_config(tmp_path / "exp.yaml")
    assert config.metrics == ("accuracy", "perplexity")
    assert config.strategies.qlora is not None
    assert (config.strategies.qlora.prompt, config.strategies.zero_shot) == ("chat", None)
    write_starter(tmp_path / "plain.yaml", starter_settings(train="a", test="b"))
    assert read_config(tmp_path / "plain.yaml").metrics == ("perplexity",)


def test_the_name_of_a_bundled_model_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-chat").mkdir()
    write_starter(Path("exp.yaml"), starter_settings(model="demo-chat"))
    assert read_config(Path("exp.yaml")).model.name == "demo-chat"


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "exp.yaml"
    out.write_text("mine")
    with pytest.raises(ForeignFileError, match="there is a file already"):
        write_starter(out, starter_settings())
    assert out.read_text() == "mine"
    write_starter(out, starter_settings(), force=True)
    assert read_config(out)


def test_the_schema_describes_the_keys() -> None:
    found = schema()
    assert found["properties"].keys() == ExperimentConfig.model_fields.keys()
    assert found["additionalProperties"] is False
    data = found["$defs"]["DataConfig"]["properties"]
    assert "seeded sample" in data["train_rows"]["description"]
    assert found["$defs"]["ModelConfig"]["properties"]["quantize"]["enum"] == ["nf4", "int8", "none"]
