"""Where a row ends, and its text then."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from plain_generate import prompt_of

from triptych.data import Row
from triptych.generate.record import prompt_texts
from triptych.generate.settings import GenerationSettings
from triptych.generate.stops import DecodeState, patterns_of
from triptych.prompts import Template, find_template, template_from_mapping, template_from_text

DEMOS = (Row("a", "問", "答"), Row("b", "問問", "答答"))


def write(tokenizer: Any, tokens: list[int], *, limit: int = 100, patterns: tuple[str, ...] = ()) -> Any:
    settings = GenerationSettings(stop_patterns=patterns)
    writing = DecodeState(prompt_of("a", (1,), (257,)), limit, settings, tokenizer)
    writing.take(tokens)
    return writing.done()


@pytest.fixture
def tokenizer(load_fake: Callable[..., Any]) -> Any:
    return load_fake("llama").profile


def test_stop_token_text_and_limit(tokenizer: Any) -> None:
    ids = tokenizer.encode("春眠不覺曉。USER: 再")
    ended = write(tokenizer.tokenizer, [*ids, 257, 1, 2])
    assert (ended.text, ended.stopped_by, ended.n_tokens) == ("春眠不覺曉。USER: 再", "eos", len(ids) + 1)
    stopped = write(tokenizer.tokenizer, [*ids, 257], patterns=("USER:", "不覺得"))
    assert (stopped.text, stopped.stopped_by) == ("春眠不覺曉。", "stop_text")
    assert stopped.n_tokens == len(tokenizer.encode("春眠不覺曉。USER:"))  # nothing is written after it
    cut = write(tokenizer.tokenizer, [*ids, 257], limit=7)
    assert (cut.text, cut.stopped_by, cut.n_tokens) == ("春眠", "length", 7)  # a third of 不 is no character
    whole = write(tokenizer.tokenizer, ids, limit=len(ids))
    assert (whole.text, whole.stopped_by) == ("春眠不覺曉。USER: 再", "length")


def test_space_between_prompt_and_output_is_no_text(tokenizer: Any) -> None:
    for end in ([257], tokenizer.encode(" USER: ")):
        ids = tokenizer.encode(" 春 眠\n")
        assert write(tokenizer.tokenizer, [*ids, *end], patterns=("USER:",)).text == "春 眠"


def test_special_tokens_are_no_text(tokenizer: Any) -> None:
    ids = tokenizer.encode("春")
    assert write(tokenizer.tokenizer, [256, *ids, 258, *ids, 257]).text == "春春"


def test_broken_bytes_in_the_middle_stay(tokenizer: Any) -> None:
    ids = tokenizer.encode("春眠")
    assert write(tokenizer.tokenizer, [*ids[:3], ids[3], *ids[:3], 257]).text == "春\ufffd春"


def test_the_stop_text_is_found_where_tokens_are_many(tokenizer: Any) -> None:
    ids = tokenizer.encode("字" * 300 + "第12個例子，USER: 問")
    found = write(tokenizer.tokenizer, ids, limit=5000, patterns=patterns_of(find_template("default"), shots=3))
    assert (found.text, found.stopped_by) == ("字" * 300, "stop_text")


def first_match(template: Template, shots: int, text: str) -> str:
    """The text that is left of an output that goes on with `text`."""
    starts = [m.start() for p in patterns_of(template, shots=shots) if (m := re.search(p, "答案" + text))]
    return ("答案" + text)[: min(starts, default=None)]


def test_the_studys_prompt_ends_where_it_goes_on() -> None:
    template = find_template("default")
    for shots in (1, 3):
        for text in ("第4個例子，USER: 問", "。接下來要請你開始你的任務：USER: 問", " ASSISTANT: 答"):
            assert first_match(template, shots, text).rstrip() == "答案"
    assert first_match(template, 0, "USER: 問") == "答案"
    assert first_match(template, 2, "第三，第4個人") == "答案第三，第4個人"
    # everything that a prompt has after a demonstration's output is found
    for shots in (1, 2):
        prompt = template.prompt("新", DEMOS[:shots])
        for demo in DEMOS[:shots]:
            rest = prompt[prompt.index(f"ASSISTANT: {demo.output}") + len("ASSISTANT: " + demo.target()) :]
            assert first_match(template, shots, rest) == "答案"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Translate: {instruction}\nAnswer:", {"Translate:", "Answer:", "\\\n\\\n"}),
        ("{instruction}", {"\\\n\\\n"}),
        ("問{instruction}答", {"\\\n\\\n"}),  # too short to tell
    ],
)
def test_patterns_of_ones_own_template(text: str, expected: set[str]) -> None:
    assert set(patterns_of(template_from_text(text), shots=2)) == expected
    assert set(patterns_of(template_from_text(text), shots=0)) == expected - {"\\\n\\\n"}


def test_literal_braces_of_a_template() -> None:
    assert patterns_of(template_from_text("Q {{a}} {instruction} answer {{b}}: "), shots=0) == (
        "Q\\ \\{a\\}",
        "answer\\ \\{b\\}:",
    )


def test_a_full_stop_behind_a_demonstration_is_no_end() -> None:
    few = {"head": "", "demo": "{instruction}{output}。", "tail": "{instruction}"}
    template = template_from_mapping({"zero_shot": "{instruction}", "few_shot": few}, name="x", where="x")
    assert patterns_of(template, shots=2) == ()


def test_turns_end_by_the_models_own_token() -> None:
    template = template_from_mapping({"zero_shot": "Translate: {instruction}", "style": "chat"}, name="x", where="x")
    assert patterns_of(template, shots=0) == patterns_of(template, shots=2) == ()


@pytest.mark.parametrize("name", ["default", "bare", "neutral-qa-en", "neutral-headings-en", "translation-zh"])
def test_few_shot_rows_end_at_all_that_their_check_would_find(name: str) -> None:
    template = find_template(name)
    assert {pattern.pattern for pattern in prompt_texts(template)} <= set(patterns_of(template, shots=3))
