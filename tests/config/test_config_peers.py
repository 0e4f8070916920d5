"""axolotl's and LLaMA-Factory's keys: mapped, already so here, or listed. None is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from triptych.config.peers import read_peer
from triptych.config.read import read_config
from triptych.config.starter import starter_settings, write_starter
from triptych.errors import ConfigError

AXOLOTL = """\
base_model: owner/llama
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: owner/pairs
    type: alpaca
    split: train
    shards: 2
  - path: other/set
    type: chat_template
test_datasets:
  - path: test.jsonl
    type: alpaca
adapter: qlora
sequence_len: 1024
sample_packing: true
lora_r: 32
lora_alpha: 64
lora_dropout: 0.05
lora_target_modules: [q_proj, v_proj]
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
learning_rate: 2e-4
lr_scheduler: cosine
warmup_ratio: 0.1
weight_decay: 0.01
optimizer: paged_adamw_32bit
bf16: true
seed: 42
val_set_size: 0.05
wandb_project:
output_dir: ./outputs/my run
train_on_inputs: false
"""
LLAMA_FACTORY = """\
model_name_or_path: owner/qwen
stage: sft
do_train: true
finetuning_type: lora
quantization_bit: 8
dataset: pairs, more
template: qwen
cutoff_len: 2048
max_samples: 1000
lora_rank: 8
lora_alpha: 16
lora_target: all
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: polynomial
warmup_steps: 20
max_steps: 200
val_size: 100
eval_steps: 50
adam_beta2: 0.95
"""


def peer(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "peer.yml"
    path.write_text(text, encoding="utf-8")
    return read_peer(path)


def test_axolotl(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("")
    mapped = peer(tmp_path, AXOLOTL)
    assert mapped.tool == "axolotl"
    assert mapped.settings == {
        "name": "my-run",
        "model": {"name": "owner/llama", "quantize": "nf4", "dtype": "bfloat16"},
        "data": {"train": "owner/pairs:train", "test": str(tmp_path / "test.jsonl")},
        "max_tokens": 1024,
        "tune": {
            "max_tokens": 1024, "r": 32, "alpha": 64, "dropout": 0.05, "target_modules": ["q_proj", "v_proj"],
            "accumulation": 4, "batch_size": 2, "epochs": 3, "lr": "2e-4", "schedule": "cosine", "warmup": 0.1,
            "weight_decay": 0.01, "seed": 42,
        },
    }  # fmt: skip
    assert set(mapped.left_out) == {
        "datasets[0].shards: 2",
        'datasets[1]: {"path": "other/set", "type": "chat_template"}',
        'optimizer: "paged_adamw_32bit"',
        "val_set_size: 0.05",
    }
    assert {"sample_packing", "train_on_inputs", "adapter"} <= mapped.so_here.keys()


def test_llama_factory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    columns = {"prompt": "q", "response": "a"}
    info = {"pairs": {"file_name": "pairs.json", "columns": columns}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "data" / "pairs.json").write_text("[]")
    mapped = peer(tmp_path, LLAMA_FACTORY)
    assert mapped.tool == "LLaMA-Factory"
    assert mapped.settings["model"] == {"name": "owner/qwen", "quantize": "int8"}
    assert mapped.settings["data"] == {
        "train": str(tmp_path / "data" / "pairs.json"),
        "columns": {"instruction": "q", "output": "a"},
        "train_rows": 1000,
        "dev_rows": 100,
    }
    assert mapped.settings["tune"] == {
        "max_tokens": 2048, "r": 8, "alpha": 16, "target_modules": "all-linear", "batch_size": 1, "accumulation": 8,
        "lr": 1e-4, "epochs": 3.0, "warmup": 0.1, "max_steps": 200, "eval_every": 50, "betas": [0.9, 0.95],
    }  # fmt: skip
    assert set(mapped.left_out) == {'dataset: "more"', 'template: "qwen"', 'lr_scheduler_type: "polynomial"'}


def test_a_data_set_that_is_only_a_name(tmp_path: Path) -> None:
    mapped = peer(tmp_path, "model_name_or_path: m\ndataset: alpaca_en\n")
    assert mapped.settings["data"] == {"train": "alpaca_en"}
    assert "dataset_info.json doesn't say" in mapped.left_out['dataset: "alpaca_en"']


@pytest.mark.parametrize(("text", "sign"), [(AXOLOTL, "base_model"), (LLAMA_FACTORY, "model_name_or_path")])
def test_every_key_ends_somewhere(tmp_path: Path, text: str, sign: str) -> None:
    mapped = peer(tmp_path, text)
    told = " ".join([*mapped.origins.values(), *mapped.so_here, *mapped.left_out])
    silent = {"load_in_8bit", "adapter", "dataset_dir"}
    for key, value in yaml.safe_load(text).items():
        assert value is None or key in silent or key in told, key
    assert sign in told


@pytest.mark.parametrize("text", [AXOLOTL, LLAMA_FACTORY])
def test_what_is_written_reads_back(tmp_path: Path, text: str) -> None:
    mapped = peer(tmp_path, text)
    out = tmp_path / "ours.yaml"
    write_starter(out, starter_settings(peer=mapped), peer=mapped)
    config = read_config(out)
    assert config.tune.r == mapped.settings["tune"]["r"]
    assert config.tune.lr in (2e-4, 1e-4)
    assert config.strategies.qlora is not None
    written = out.read_text(encoding="utf-8")
    assert "# LEFT OUT:" in written
    for what in mapped.left_out:
        assert f"#   {what}" in written


@pytest.mark.parametrize("text", ["a: 1\n", "[1]\n", "", "text\n"])
def test_a_file_of_no_tool(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="neither an axolotl nor a LLaMA-Factory"):
        peer(tmp_path, text)


def test_a_value_that_makes_no_sense_is_said_before_anything_is_written(tmp_path: Path) -> None:
    mapped = peer(tmp_path, "base_model: m\nlora_r: many\ndatasets: [{path: x.json}]\n")
    with pytest.raises(ConfigError, match=r"`tune.r` can't be used"):
        write_starter(tmp_path / "out.yaml", starter_settings(peer=mapped), peer=mapped)
    assert not (tmp_path / "out.yaml").exists()


def test_a_value_that_json_has_no_word_for_is_listed_too(tmp_path: Path) -> None:
    mapped = peer(tmp_path, "base_model: m\nodd: {2024-01-01: x}\n")
    assert list(mapped.left_out) == ["odd: {datetime.date(2024, 1, 1): 'x'}"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("base_model: m\ndatasets: [{path: ''}]\n", "no path in it"),
        ("base_model: m\ndatasets: [x]\n", "no path in it"),
        ("model_name_or_path: m\ndataset: ','\n", "no name of a data set"),
        ("base_model: m\nadam_beta1: 1" + "0" * 400 + "\n", "not a number from 0 to 1"),
        ("base_model: m\nlora_target_modules: [1]\n", "tune.target_modules is a list of names, or all-linear"),
        ("base_model: m\nadapter: full\n", "adapters are the only training here"),
    ],
)
def test_a_value_that_cant_be_used_is_left_out_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    mapped = peer(tmp_path, text)
    assert list(mapped.left_out.values()) == [why]
    write_starter(tmp_path / "out.yaml", starter_settings(peer=mapped), peer=mapped)


@pytest.mark.parametrize("name", ["''", "x" * 400, "'\\0'"])
def test_a_model_name_that_can_be_no_file(tmp_path: Path, name: str) -> None:
    mapped = peer(tmp_path, f"base_model: {name}\n")
    write_starter(tmp_path / "out.yaml", starter_settings(peer=mapped), peer=mapped)
