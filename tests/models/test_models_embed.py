"""Embeddings: the mean that is said, whatever the batch; kept by content; clear about what isn't there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from triptych.errors import DataError, ModelError
from triptych.models import LoraSettings, adapter_enabled, attach_adapter, embed
from triptych.models.embed import embed_texts

TEXTS = ["翻譯成文言文", "a", "a longer text, of several words", "大風三日", "a"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were embedded and not looked up."""
    made: list[str] = []
    real = embed._hidden_means

    def means(texts: list[str], loaded: Any) -> Any:
        made.extend(texts)
        return real(texts, loaded)

    monkeypatch.setattr(embed, "_hidden_means", means)
    return made


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_the_mean_of_the_last_hidden_state(load_fake: Callable[..., Any], architecture: str) -> None:
    loaded = load_fake(architecture)
    vectors = embed_texts(TEXTS, model=loaded)
    assert set(vectors) == set(TEXTS)
    for text in TEXTS:
        ids = [loaded.profile.bos_id, *loaded.profile.encode(text)]
        states = loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        np.testing.assert_allclose(vectors[text], states[1:].mean(0).detach().numpy(), rtol=1e-4, atol=1e-5)
        assert vectors[text].dtype == np.float32


def test_batches_do_not_matter(load_fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = load_fake()
    texts = [f"text {'x' * n}" for n in range(30)]
    together = embed_texts(texts, model=loaded)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(embed, "_TOKENS_AT_ONCE", 1)
    alone = embed_texts(texts, model=loaded)
    for text in texts:
        np.testing.assert_allclose(together[text], alone[text], rtol=1e-4, atol=1e-5)


def test_a_text_is_embedded_once(load_fake: Callable[..., Any], counted: list[str]) -> None:
    loaded = load_fake()
    first = embed_texts(["a", "b", "a"], model=loaded)
    assert counted == ["a", "b"]
    again = embed_texts(["b", "c", "a"], model=loaded)
    assert counted == ["a", "b", "c"]
    assert list(again) == ["b", "c", "a"]
    assert all(np.array_equal(first[text], again[text]) for text in first)


def test_other_weights_are_another_model(
    load_fake: Callable[..., Any], fake_folder: Callable[..., Path], counted: list[str]
) -> None:
    one = embed_texts(["a"], model=load_fake())["a"]
    two = embed_texts(["a"], model=load_fake(fake_folder("llama", seed=1)))["a"]
    assert counted == ["a", "a"]
    assert not np.allclose(one, two)


def test_a_broken_cache_is_no_cache(load_fake: Callable[..., Any], tmp_path: Path) -> None:
    loaded = load_fake()
    whole = embed_texts(["a"], model=loaded)
    (tmp_path / "cache" / "embeddings.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 9)
    np.testing.assert_allclose(embed_texts(["a"], model=loaded)["a"], whole["a"], rtol=1e-5)


def test_the_adapter_takes_no_part(load_fake: Callable[..., Any]) -> None:
    loaded = load_fake()
    base = embed_texts(["a"], model=loaded)["a"]
    adapter = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    for parameter in adapter.parameters().values():
        torch.nn.init.normal_(parameter.data, std=1.0)
    with pytest.raises(ValueError, match="switch the adapter off"):
        embed_texts(["b"], model=loaded)
    with adapter_enabled(adapter, on=False):
        np.testing.assert_allclose(next(embed._hidden_means(["a"], loaded))[0][1], base, rtol=1e-5)


def test_a_text_that_cannot_be_embedded(load_fake: Callable[..., Any]) -> None:
    loaded = load_fake()
    with pytest.raises(DataError, match="0 tokens"):
        embed_texts(["a", ""], model=loaded)
    with pytest.raises(DataError, match="5000 tokens") as caught:
        embed_texts(["x" * 5000], model=loaded)
    assert "1 to 4096" in str(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError) as caught:
        embed_texts(["a"], model="some/model")
    message = str(caught.value)
    assert "embedding model 'some/model'" in message
    assert "pip install sentence-transformers" in message
    assert caught.value.exit_code == 2


class Encoder:
    """What is used of a SentenceTransformer."""

    def __init__(self, name: str, **only: Any) -> None:
        assert only == {"trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
        if name == "no/such":
            raise OSError("no/such is not a local folder and is not a valid model identifier\nmore lines")
        self.scale = float(len(name))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"scale": torch.tensor([self.scale])}

    def encode(self, texts: list[str], **_: Any) -> Any:
        return np.array([[len(text) * self.scale, 1.0] for text in texts])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Encoder))


@pytest.mark.usefixtures("library")
def test_a_sentence_transformers_model(tmp_path: Path) -> None:
    vectors = embed_texts(["ab", "c"], model="a/b")
    assert {text: vector.tolist() for text, vector in vectors.items()} == {"ab": [6.0, 1.0], "c": [3.0, 1.0]}
    assert vectors["ab"].dtype == np.float32
    (tmp_path / "folder").mkdir()
    assert embed_texts(["ab"], model=str(tmp_path / "folder"))["ab"][0] == 2 * len(str(tmp_path / "folder"))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("name", "part"), [("no/such", "not a valid model"), ("./nowhere", "no such folder")])
def test_an_embedding_model_that_is_not_there(name: str, part: str) -> None:
    with pytest.raises(ModelError, match="embedding model can't be loaded") as caught:
        embed_texts(["a"], model=name)
    assert part in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "more lines" not in str(caught.value)


def test_vectors_of_two_lengths_in_the_cache_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))

    def make(length: int, made: list[str]) -> Any:
        return lambda texts: iter([[(text, np.ones(length, np.float32)) for text in texts if not made.append(text)]])  # type: ignore[func-returns-value]

    embed._cached(["a"], {}, make(2, []), None)
    embed._cached(["b"], {}, make(3, []), None)
    made: list[str] = []
    assert {len(vector) for vector in embed._cached(["a", "b"], {}, make(3, made), None).values()} == {3}
    assert made == ["a", "b"]
