"""Protocol hw3, step by step, on a tokenizer made by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config.choices import MAX_TOKENS
from triptych.data import Row
from triptych.errors import DataError, ModelError
from triptych.prompts import find_template, render, template_from_mapping

BOS, EOS = 1, 2


@dataclass
class Pairs:
    """Two characters a token, so that text tokenized as a whole falls otherwise than in two parts."""

    bos_id: int | None = BOS
    eos_id: int = EOS

    def encode(self, text: str) -> list[int]:
        pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
        return [10 + sum(ord(c) << (21 * i) for i, c in enumerate(pair)) for pair in pairs]

    @staticmethod
    def decode(ids: tuple[int, ...]) -> str:
        """The text of a prompt's ids; for tests."""
        pairs = [(i - 10 & (1 << 21) - 1, i - 10 >> 21) for i in ids if i not in (BOS, EOS)]
        return "".join(chr(a) + (chr(b) if b else "") for a, b in pairs)


PLAIN = template_from_mapping(
    {
        "zero_shot": "Q:{instruction}=",
        "few_shot": {"head": "{k} shown.", "demo": "#{i}/{k} {instruction}={output};", "tail": "Q:{instruction}="},
    },
    name="plain",
    where="test",
)
DEMOS = [Row(f"d{i}", f"ask {i}", f"say {i}") for i in (1, 2, 3)]


def test_ids_are_bos_prompt_output_eos() -> None:
    tokenizer = Pairs()
    rendered = render(Row("r", "hello", "world!"), PLAIN, tokenizer)
    prompt, output = tokenizer.encode("Q:hello="), tokenizer.encode("world!")
    assert rendered.ids == (BOS, *prompt, *output, EOS)
    assert rendered.n_prompt == 1 + len(prompt)
    assert rendered.ids[rendered.n_prompt :] == (*output, EOS)  # scored: the output and EOS, nothing else
    assert rendered.n_scored == len(output) + 1
    assert rendered.n_chars == 6
    assert (rendered.row_id, rendered.demo_ids, rendered.n_demos_dropped) == ("r", (), 0)


def test_prompt_and_output_are_tokenized_separately() -> None:
    tokenizer = Pairs()
    row = Row("r", "odd", "xyz")  # "Q:odd=" has 6 characters and "xyz" 3; with one more the halves would meet
    template = template_from_mapping({"zero_shot": "Q:{instruction}"}, name="t", where="test")
    joint = tokenizer.encode("Q:oddxyz")
    rendered = render(row, template, tokenizer)
    assert rendered.ids == (BOS, *tokenizer.encode("Q:odd"), *tokenizer.encode("xyz"), EOS)
    assert rendered.ids[1:-1] != tuple(joint)


def test_model_without_bos() -> None:
    tokenizer = Pairs(bos_id=None)
    rendered = render(Row("r", "hello", "world!"), PLAIN, tokenizer)
    assert rendered.ids == (*tokenizer.encode("Q:hello="), *tokenizer.encode("world!"), EOS)
    assert rendered.n_prompt == len(tokenizer.encode("Q:hello="))


def test_one_bos_even_if_bos_is_zero() -> None:
    rendered = render(Row("r", "a", "b"), PLAIN, Pairs(bos_id=0))
    assert rendered.ids[0] == 0
    assert rendered.ids.count(0) == 1


def test_empty_output_is_eos_alone() -> None:
    rendered = render(Row("r", "a", ""), PLAIN, Pairs())
    assert rendered.ids[rendered.n_prompt :] == (EOS,)
    assert (rendered.n_scored, rendered.n_chars) == (1, 0)


def test_characters_are_code_points() -> None:
    assert render(Row("r", "a", "𠮷野家"), PLAIN, Pairs()).n_chars == 3


def test_demos_are_shown_in_order() -> None:
    rendered = render(Row("r", "me", "x"), PLAIN, Pairs(), demos=DEMOS)
    text = Pairs.decode(rendered.ids[: rendered.n_prompt])
    assert text == "3 shown.#1/3 ask 1=say 1;#2/3 ask 2=say 2;#3/3 ask 3=say 3;Q:me="
    assert rendered.demo_ids == ("d1", "d2", "d3")


def test_demos_that_do_not_fit_go_whole_and_last_first() -> None:
    tokenizer, row = Pairs(), Row("r", "me", "x")
    sizes = [len(render(row, PLAIN, tokenizer, demos=DEMOS[:k]).ids) for k in range(4)]
    assert sizes == sorted(set(sizes))
    for k, size in enumerate(sizes):
        rendered = render(row, PLAIN, tokenizer, demos=DEMOS, max_tokens=size)
        assert len(rendered.ids) == size
        assert rendered.demo_ids == tuple(demo.id for demo in DEMOS[:k])
        assert rendered.n_demos_dropped == 3 - k
        # the same as if only these had been given: the numbers in the text are those of the demos left
        assert rendered.ids == render(row, PLAIN, tokenizer, demos=DEMOS[:k]).ids
        if k:  # one token less and one demo more is gone
            tight = render(row, PLAIN, tokenizer, demos=DEMOS, max_tokens=size - 1)
            assert len(tight.demo_ids) == k - 1
    text = Pairs.decode(render(row, PLAIN, tokenizer, demos=DEMOS, max_tokens=sizes[2]).ids)
    assert text.startswith("2 shown.#1/2 ask 1=say 1;#2/2 ask 2")


def test_the_limit_includes_bos_and_eos() -> None:
    tokenizer, template = Pairs(), template_from_mapping({"zero_shot": "{instruction}"}, name="t", where="test")
    longest = Row("r", "x" * 2 * (MAX_TOKENS - 3), "yz")  # 2,045 tokens of prompt, BOS, one of output, EOS
    assert len(render(longest, template, tokenizer).ids) == MAX_TOKENS == 2048
    with pytest.raises(DataError):
        render(Row("r", longest.instruction + "x", "yz"), template, tokenizer)


def test_a_row_too_long_is_named() -> None:
    with pytest.raises(DataError) as caught:
        render(Row("long one", "x" * 40, "y" * 10), PLAIN, Pairs(), demos=DEMOS, max_tokens=20)
    message = str(caught.value)
    assert "'long one'" in message
    assert "`plain`" in message
    assert "29 tokens (23 of prompt, 6 to score)" in message
    assert "at most 20" in message


def test_nothing_to_predict_from() -> None:
    template = template_from_mapping({"zero_shot": "{instruction}"}, name="bare", where="test")
    with pytest.raises(ModelError, match="nothing can predict the first output token"):
        render(Row("r", "", "x"), template, Pairs(bos_id=None))
    assert render(Row("r", "", "x"), template, Pairs()).n_prompt == 1


def test_special_words_in_data_are_text() -> None:
    tokenizer = Pairs()
    rendered = render(Row("r", "<s></s>{k}", "</s>"), PLAIN, tokenizer)
    assert rendered.ids == (BOS, *tokenizer.encode("Q:<s></s>{k}="), *tokenizer.encode("</s>"), EOS)


@given(st.text(), st.text(), st.booleans(), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_rendering_is_always_the_protocol(
    instruction: str, output: str, bos: bool, shown: list[tuple[str, str]]
) -> None:
    tokenizer, template = Pairs(bos_id=BOS if bos else None), find_template("default")
    demos = [Row(str(i), *texts) for i, texts in enumerate(shown)]
    rendered = render(Row("r", instruction, output), template, tokenizer, demos=demos)
    start = (BOS,) if bos else ()
    prompt = template.prompt(instruction, demos)
    assert rendered.ids == (*start, *tokenizer.encode(prompt), *tokenizer.encode(output), EOS)
    assert rendered.ids[rendered.n_prompt :] == (*tokenizer.encode(output), EOS)


@given(st.lists(st.text(min_size=1, max_size=30), max_size=5), st.integers(30, 150))
def test_the_limit_is_kept_and_as_many_demos_as_fit_are_shown(shown: list[str], limit: int) -> None:
    row, tokenizer = Row("r", "me", "x"), Pairs()
    demos = [Row(str(i), text, text) for i, text in enumerate(shown)]
    rendered = render(row, PLAIN, tokenizer, demos=demos, max_tokens=limit)
    kept = len(rendered.demo_ids)
    assert len(rendered.ids) <= limit
    assert kept + rendered.n_demos_dropped == len(demos)
    if rendered.n_demos_dropped:
        assert len(render(row, PLAIN, tokenizer, demos=demos[: kept + 1]).ids) > limit
