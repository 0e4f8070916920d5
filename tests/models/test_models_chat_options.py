"""Options behind a model's chat template: each written as an output is, also where the turns before change that."""

from __future__ import annotations

import pytest
from chat_tokenizers import TEMPLATES, chat_tokenizer

from triptych.data import Row
from triptych.errors import DataError
from triptych.models import profile_of
from triptych.prompts import render, render_options, template_from_mapping

ROW = Row("r", "which?", "cash")
OPTIONS = ("card arrival", "card", "cash")
DEMOS = [Row(f"d{i}", f"ask {i}", f"say {i}") for i in (1, 2)]


@pytest.mark.parametrize("family", list(TEMPLATES))
@pytest.mark.parametrize("style", ["chat", "multiturn"])
def test_a_chat_template_writes_each_option_as_it_writes_an_output(family: str, style: str) -> None:
    profile = profile_of(chat_tokenizer(family))
    template = template_from_mapping({"style": style, "zero_shot": "{instruction}"}, name="t", where="test")
    demos = DEMOS if style == "multiturn" else []
    answers: dict[str, tuple[int, ...]] = {}
    for row in (Row("a", "one", "cash"), Row("b", "two words", "none of them")):
        asked = render_options(row, OPTIONS, template, profile, answers=answers, demos=demos)
        for option, ids in zip(OPTIONS, asked.options, strict=True):
            alone = render(Row(row.id, row.instruction, option), template, profile, demos=demos)
            assert alone.ids == (*asked.row.ids[: asked.row.n_prompt], *ids)
    assert set(answers) == set(OPTIONS)


def test_a_template_that_writes_answers_otherwise_after_more_turns_is_followed() -> None:
    tokenizer = chat_tokenizer("plain_end")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
        "{% if m['role'] == 'assistant' and loop.last %} ({{ messages | length }}){% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    profile = profile_of(tokenizer)
    template = template_from_mapping({"style": "multiturn", "zero_shot": "{instruction}"}, name="t", where="test")
    answers: dict[str, tuple[int, ...]] = {}
    render_options(ROW, OPTIONS, template, profile, answers=answers)
    asked = render_options(ROW, OPTIONS, template, profile, answers=answers, demos=DEMOS)
    for option, ids in zip(OPTIONS, asked.options, strict=True):
        alone = render(Row("r", "which?", option), template, profile, demos=DEMOS)
        assert alone.ids[alone.n_prompt :] == ids


def test_options_that_are_the_same_tokens_are_refused() -> None:
    profile = profile_of(chat_tokenizer("llama3"))  # its template trims
    template = template_from_mapping({"style": "chat", "zero_shot": "{instruction}"}, name="t", where="test")
    with pytest.raises(DataError, match="'cash' and 'cash '"):
        render_options(ROW, ("card", "cash", "cash "), template, profile, answers={})
