"""What the libraries raise, in our words: the real error wherever it can be had without a network."""

from __future__ import annotations

import builtins
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub
from safetensors import SafetensorError

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import load_model
from triptych.models.header import read_header
from triptych.models.library_errors import explained, reason_of


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def answered(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "means", "fix"),
    [
        (
            raised_from(
                OSError("You are trying to access a gated repo."), hub.GatedRepoError("403", response=answered(403))
            ),
            "it is gated",
            "hf auth login",
        ),
        (
            raised_from(
                OSError("owner/nmae is not a local folder"), hub.RepositoryNotFoundError("404", response=answered(404))
            ),
            "no model of that name",
            "check the name",
        ),
        (hub.RevisionNotFoundError("404", response=answered(404)), "no such revision", "`revision`"),
        (
            raised_from(OSError("We couldn't connect to the hub"), hub.LocalEntryNotFoundError("offline")),
            "the hub can't be reached",
            "go online once",
        ),
        (hub.OfflineModeIsEnabled("offline"), "the hub can't be reached", "give a folder"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 14.00 GiB"), "not enough memory", "packed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory", "triptych plan"),
        (MemoryError(), "not enough memory", "nf4"),
        (SafetensorError("Error while deserializing header: header too large"), "cut short", "git lfs pull"),
        (
            ImportError(
                "\nLlamaTokenizer requires the SentencePiece library but it was not found in your environment."
            ),
            "needs a library",
            "pip install sentencepiece",
        ),
        (ImportError("This tokenizer requires `tiktoken`: pip install tiktoken"), "needs a library", "tiktoken"),
        (ValueError("The model is already quantized with gptq."), "quantized already", "quantize: none"),
        (ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes"), "bitsandbytes", "doctor"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full", "HF_HOME"),
    ],
)
def test_each_says_what_it_means_and_what_to_do(error: Exception, means: str, fix: str) -> None:
    message = str(explained(error, "the model can't be loaded", where="m", expected="a model", fix="something else"))
    first, *rest = message.splitlines()
    assert first.startswith("the model can't be loaded: ")
    assert means in first
    assert fix in rest[-1]
    assert "something else" not in message


def test_what_none_knows_keeps_the_callers_words() -> None:
    error = explained(ValueError("a cosmic ray\nand more"), "it fails", where="m", expected="e", fix="wait")
    assert str(error).splitlines() == [
        "it fails",
        "  where: m",
        "  found: a cosmic ray",
        "  expected: e",
        "  to fix it: wait",
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Error(s) in loading state_dict for A:\n\tsize mismatch for b"), "size mismatch for b"),
        (ValueError("Couldn't make it from one of:\n(1) a file\n(2) another"), "(1) a file"),
        (OSError("Loading m.\nSee the docs.\nThe file is missing."), "Loading m. The file is missing."),
        (raised_from(OSError("Can't load it"), ValueError("bad magic\nat 0")), "Can't load it (ValueError: bad magic)"),
        (ValueError(), "ValueError"),
        (KeyError("llama-19"), "KeyError: 'llama-19'"),
    ],
)
def test_the_line_that_says_why_is_kept(error: Exception, reason: str) -> None:
    assert reason in reason_of(error)
    assert len(reason_of(ValueError("long " * 1000))) <= 401


@pytest.fixture
def model(fake_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """`model(**config)`: a tiny model whose config.json says something else."""
    import shutil

    def made(**config: Any) -> Path:
        folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **config}), encoding="utf-8")
        return folder

    return made


def message_of(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(ModelConfig(name=str(folder), quantize="none", dtype="float32", device="cpu", threads=1))
    return str(caught.value)


def test_a_models_own_code_is_never_run_nor_asked_about(
    model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Left to itself, transformers asks `Do you wish to run the custom code? [y/N]` on a terminal."""
    folder = model(model_type="of-my-own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("it asked"))
    assert "Python code of its own" in message_of(folder)
    assert "stays off" in message_of(folder)
    with pytest.raises(ModelError, match="Python code of its own"):
        read_header(ModelConfig(name=str(folder)))
    assert not (tmp_path / "ran").exists()
    assert not any("own" in name.split(".") for name in sys.modules if name.startswith("transformers_modules"))


def test_an_architecture_that_is_too_new(model: Callable[..., Path]) -> None:
    message = message_of(model(model_type="llama-19"))
    assert "doesn't know its architecture" in message
    assert "pip install --upgrade transformers" in message


def test_a_model_that_is_no_causal_one(model: Callable[..., Path]) -> None:
    assert "it is no causal language model" in message_of(model(model_type="t5"))
