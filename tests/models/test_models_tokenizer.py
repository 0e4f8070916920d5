"""The profile: which BOS and EOS, and what is said when there are several or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from triptych.errors import ModelError
from triptych.models import load_tokenizer, profile_of
from triptych.models import tokenizer as tokenizer_module
from triptych.models.tokenizer import save_as_it_is


@pytest.fixture
def tokenizer(fake_folder: Callable[..., Path]) -> Any:
    return load_tokenizer(fake_folder("llama"))


def test_the_tokenizers_own_ids(tokenizer: Any) -> None:
    profile = profile_of(tokenizer)
    assert (profile.bos_id, profile.eos_id) == (256, 257)
    assert profile.record() == {"bos_id": 256, "eos_id": 257, "tokenizer_sha256": profile.sha256, "note": profile.note}


def test_no_special_tokens_are_added(tokenizer: Any) -> None:
    assert profile_of(tokenizer).encode("") == []
    assert len(profile_of(tokenizer).encode("abc")) == 3


def test_no_bos(tokenizer: Any) -> None:
    tokenizer.bos_token = None
    assert profile_of(tokenizer).bos_id is None


def test_a_bos_that_the_tokenizer_alone_would_not_add(tokenizer: Any) -> None:
    profile = profile_of(tokenizer)
    assert tokenizer("a")["input_ids"][0] != profile.bos_id
    assert "add_bos_token: false" in profile.record()["note"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 256)])
    assert profile_of(tokenizer).note == ""


def test_eos_of_the_configuration(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    assert profile_of(tokenizer, 100).eos_id == 100


def test_the_first_of_several_eos(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    profile = profile_of(tokenizer, [101, 100, 102])
    assert profile.eos_id == 101
    assert "[101, 100, 102]" in profile.note
    assert "first is used" in profile.note
    assert profile.record()["note"] == profile.note


@pytest.mark.parametrize("config_eos", [None, []])
def test_no_eos(tokenizer: Any, config_eos: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no EOS token"):
        profile_of(tokenizer, config_eos)


def test_eos_id_zero_is_an_id(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    assert profile_of(tokenizer, 0).eos_id == 0


def test_hash_follows_content(tokenizer: Any, fake_folder: Callable[..., Path]) -> None:
    first = profile_of(tokenizer).sha256
    assert profile_of(load_tokenizer(fake_folder("llama"))).sha256 == first
    tokenizer.eos_token = "<pad>"
    assert profile_of(tokenizer).sha256 != first


def test_a_tokenizer_that_knows_nothing(tokenizer: Any) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    blank = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    empty = PreTrainedTokenizerFast(tokenizer_object=blank, eos_token="</s>", unk_token="<unk>")
    with pytest.raises(ModelError, match="different texts into the same"):
        profile_of(empty)


def test_the_chat_template_is_in_the_record(tokenizer: Any) -> None:
    assert not profile_of(tokenizer).has_chat_template
    hashes = set()
    for template in ("{{ messages }}", "{{ messages }}!"):
        tokenizer.chat_template = template
        profile = profile_of(tokenizer)
        assert profile.has_chat_template
        hashes.add(profile.record()["chat_template_sha256"])
    assert len(hashes) == 2
    assert profile.record()["tokenizer_sha256"] == profile.sha256


TEXTS = ["", "a", " two  spaces ", "<bos>日本 <eos>", "line\nbreak", "é🙂", "<mask> <pad>x"]


def gemma() -> Any:
    """A tokenizer whose class builds it anew from vocabulary and merges."""
    from transformers import GemmaTokenizer

    letters = ["▁", *"abdeiklnoprstwx", "tw", "two", *(f"<0x{byte:02X}>" for byte in range(256))]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocab = {token: at for at, token in enumerate([*special, *letters])}
    return GemmaTokenizer(vocab=vocab, merges=[("t", "w"), ("tw", "o")])


@pytest.mark.parametrize("kind", ["gemma", "plain"])
def test_a_tokenizer_saved_as_it_is_comes_back_the_same(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    before = gemma() if kind == "gemma" else tokenizer
    before.save_pretrained(tmp_path / "by its class")
    save_as_it_is(before, tmp_path / "as it is")
    theirs, ours = load_tokenizer(tmp_path / "by its class"), load_tokenizer(tmp_path / "as it is")
    assert type(ours) is PreTrainedTokenizerFast
    assert profile_of(ours).record() == profile_of(theirs).record()
    for text in TEXTS:
        for special in (False, True):
            ids = theirs(text, add_special_tokens=special)["input_ids"]
            assert ours(text, add_special_tokens=special)["input_ids"] == ids
            assert ours.decode(ids, skip_special_tokens=special) == theirs.decode(ids, skip_special_tokens=special)
    batch = [ours(TEXTS[1:3], padding=True), theirs(TEXTS[1:3], padding=True)]
    assert dict(batch[0]) == dict(batch[1])
    assert ours.all_special_tokens == theirs.all_special_tokens


def test_a_tokenizer_that_would_come_back_as_another_is_left_to_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_module, "_state", lambda one: type(one).__name__)
    save_as_it_is(gemma(), tmp_path)
    assert type(load_tokenizer(tmp_path)).__name__ == "GemmaTokenizer"
