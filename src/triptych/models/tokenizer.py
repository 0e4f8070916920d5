"""The tokenizer profile: the few facts about a tokenizer that decide which ids a row becomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych.errors import ModelError
from triptych.models.chat import ChatFormat
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE, explained

_LONGEST_PIECE = 8  # bytes of a character, twice over: beyond that it is no character


@dataclass(frozen=True)
class TokenizerProfile:
    """A tokenizer and its special ids, as used in every rendering.

    `bos_id` is None for models without a BOS. Where a model names several EOS ids the first is used; the profile's
    record says so.
    """

    tokenizer: Any
    bos_id: int | None
    eos_id: int
    sha256: str
    note: str = ""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer comes with a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def chat_prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation, (role, text) by turn, up to where the assistant's answer begins."""
        return self._chat.prompt(turns)

    def chat(self, turns: Sequence[tuple[str, str]], answer: str) -> tuple[list[int], list[int]]:
        """The same, and the ids of the answer with the token that ends its turn."""
        return self._chat.with_answer(turns, answer)

    def chat_answer_chars(self, turns: Sequence[tuple[str, str]], answer: str) -> int:
        """Characters of the answer that the template leaves, and so are scored."""
        return self._chat.answer_chars(turns, answer)

    def chat_stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant's turn: the template's own, and EOS."""
        return self._chat.stop_ids

    @cached_property
    def _chat(self) -> ChatFormat:
        return ChatFormat(self.tokenizer, self.eos_id)

    def pieces(self, ids: Sequence[int]) -> list[tuple[str, int]]:
        """Text for display: the shortest runs of tokens that decode to whole characters, each with its token count.

        A character that is spread over three byte tokens is one piece of 3; bytes that never make a character stand
        as U+FFFD.
        """
        pieces: list[tuple[str, int]] = []
        start = 0
        for end in range(1, len(ids) + 1):
            text = self.tokenizer.decode(list(ids[start:end]), clean_up_tokenization_spaces=False)
            if not text.endswith("\ufffd") or end == len(ids) or end - start >= _LONGEST_PIECE:
                pieces.append((text, end - start))
                start = end
        return pieces

    def record(self) -> dict[str, Any]:
        """For the run's records; with a chat template its hash too, which `tokenizer_sha256` leaves out."""
        facts = {"bos_id": self.bos_id, "eos_id": self.eos_id, "tokenizer_sha256": self.sha256, "note": self.note}
        if self.has_chat_template:
            template = json.dumps(self.tokenizer.chat_template, sort_keys=True)
            facts["chat_template_sha256"] = hashlib.sha256(template.encode()).hexdigest()
        return facts


def load_tokenizer(folder: str | Path, *, name: str | None = None) -> Any:
    """The tokenizer of a model folder; `name` is the model's as the user gave it, for errors.

    Raises:
        ModelError: there is none that can be used.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, **NO_CODE)
    except LIBRARY_ERRORS as error:
        raise explained(
            error,
            "the model has no usable tokenizer",
            where=name or str(folder),
            expected="tokenizer.json (or the model family's own tokenizer files) beside the weights",
            fix="copy the tokenizer files of the model into the folder, or name the model by its hub id",
        ) from error


def save_as_it_is(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer of `tokenizers` so that it is loaded as it stands in tokenizer.json.

    A family's own class takes vocabulary and merges apart in Python and builds the same tokenizer anew: 262,144 tokens
    take it three times as long. A tokenizer that would come back as another one is saved as its class does.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer.save_pretrained(folder)
    path, saved = folder / "tokenizer_config.json", load_tokenizer(folder)
    if not isinstance(saved, PreTrainedTokenizerFast) or not path.is_file():
        return
    before = path.read_bytes()
    added = {
        number: {name: getattr(token, name) for name in ("content", *_TOKEN_FLAGS)}
        for number, token in saved.added_tokens_decoder.items()
    }
    sides = {name: getattr(saved, name) for name in ("padding_side", "truncation_side", "model_input_names")}
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added, **sides}
    path.write_text(json.dumps({**json.loads(before), **facts}, ensure_ascii=False, indent=1), encoding="utf-8")
    if _state(load_tokenizer(folder)) != _state(saved):
        path.write_bytes(before)


_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _state(tokenizer: Any) -> dict[str, Any]:
    """All that decides what a tokenizer makes of a text, without the places it was read from."""
    own = ("_tokenizer", "_vocab", "_merges", "init_kwargs", "name_or_path", "vocab_file")
    state = {name: repr(value) for name, value in vars(tokenizer).items() if name not in own}
    return {**state, "content": _content_hash(tokenizer)}


def profile_of(tokenizer: Any, config_eos: int | list[int] | None = None) -> TokenizerProfile:
    """Read BOS, EOS and a content hash off a transformers tokenizer; `config_eos` is used when it names no EOS.

    Raises:
        ModelError: neither names an EOS, so the end of an output can't be scored, or text yields no tokens.
    """
    eos, note = tokenizer.eos_token_id, ""
    if eos is None:
        eos = config_eos
    if isinstance(eos, list):
        note = f"the model names EOS ids {eos}; the first is used"
        eos = eos[0] if eos else None
    # without its files, transformers makes some families an empty tokenizer: no tokens, or `unknown` for everything
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in "ab")
    problem, fix = "", "check that the tokenizer files are whole and belong to the model"
    if not a or a == b:
        problem = "the tokenizer turns text into no tokens, or different texts into the same"
    if eos is None:
        problem = "the tokenizer has no EOS token, so the end of an output can't be scored"
        fix = "set eos_token in tokenizer_config.json"
    if problem:
        raise ModelError(problem, where=str(getattr(tokenizer, "name_or_path", "tokenizer")), fix=fix)
    bos = tokenizer.bos_token_id
    if bos is not None and list(tokenizer("a")["input_ids"])[:1] != [bos]:
        no_bos = (
            "the tokenizer alone puts no BOS before a text (add_bos_token: false); here BOS is put first all the same"
        )
        note = f"{note}; {no_bos}" if note else no_bos
    return TokenizerProfile(tokenizer, bos, int(eos), _content_hash(tokenizer), note)


def _content_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps([tokenizer.bos_token_id, tokenizer.eos_token_id])
    return hashlib.sha256((content + special).encode()).hexdigest()
