"""Styles with turns, on a tokenizer that writes its conversations in the open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from triptych.data import Row
from triptych.errors import DataError, ModelError, TemplateError
from triptych.prompts import Template, find_template, render, render_prompt, template_from_mapping

BOS, EOS, END = 1, 2, 3


@dataclass
class Letters:
    """A token a letter; turns are `<role>text` and END."""

    bos_id: int | None = BOS
    eos_id: int = EOS
    has_chat_template: bool = True

    def encode(self, text: str) -> list[int]:
        return [10 + ord(c) for c in text]

    def chat_prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        written = [id for role, text in turns for id in (*self.encode(f"<{role}>{text}"), END)]
        return [BOS, *written, *self.encode("<assistant>")]

    def chat(self, turns: Sequence[tuple[str, str]], answer: str) -> tuple[list[int], list[int]]:
        return self.chat_prompt(turns), [*self.encode(answer), END]

    def chat_answer_chars(self, turns: Sequence[tuple[str, str]], answer: str) -> int:
        return len(answer)

    def chat_stop_ids(self) -> tuple[int, ...]:
        return (END, EOS)


@dataclass
class Plain:
    """A tokenizer that knows of no chats at all."""

    bos_id: int | None = BOS
    eos_id: int = EOS

    def encode(self, text: str) -> list[int]:
        return [10 + ord(c) for c in text]


def text_of(ids: Sequence[int]) -> str:
    return "".join({BOS: "^", EOS: "$", END: "|"}.get(id) or chr(id - 10) for id in ids)


def template(style: str, **more: object) -> Template:
    base: dict[str, object] = {"zero_shot": "Q {instruction}", "style": style, **more}
    return template_from_mapping(base, name=style, where="test")


ROW = Row("r", "me", "yes")
DEMOS = [Row("d1", "ask1", "say1"), Row("d2", "ask2", "say2")]


def test_chat_is_one_turn_of_the_user() -> None:
    rendered = render(ROW, template("chat"), Letters())
    assert text_of(rendered.ids) == "^<user>Q me|<assistant>yes|"
    assert text_of(rendered.ids[rendered.n_prompt :]) == "yes|"
    assert rendered.n_chars == 3


def test_chat_shows_demos_in_the_same_turn() -> None:
    few_shot = {"head": "{k}:", "demo": "{i} {instruction}={output};", "tail": "{instruction}"}
    rendered = render(ROW, template("chat", few_shot=few_shot, system="be good"), Letters(), demos=DEMOS)
    assert text_of(rendered.ids) == "^<system>be good|<user>2:1 ask1=say1;2 ask2=say2;me|<assistant>yes|"


def test_multiturn_shows_demos_as_turns() -> None:
    rendered = render(ROW, template("multiturn", system="be good"), Letters(), demos=DEMOS)
    assert text_of(rendered.ids) == (
        "^<system>be good|<user>Q ask1|<assistant>say1|<user>Q ask2|<assistant>say2|<user>Q me|<assistant>yes|"
    )
    assert text_of(rendered.ids[rendered.n_prompt :]) == "yes|"


@pytest.mark.parametrize("style", ["chat", "multiturn"])
def test_demos_that_do_not_fit_go_whole(style: str) -> None:
    whole = render(ROW, template(style), Letters(), demos=DEMOS)
    one_less = len(whole.ids) - 1
    for drop, left in (("last", DEMOS[:1]), ("first", DEMOS[1:])):
        tight = render(ROW, template(style), Letters(), demos=DEMOS, max_tokens=one_less, drop=drop)  # type: ignore[arg-type]
        assert tight.ids == render(ROW, template(style), Letters(), demos=left).ids
        assert (tight.demo_ids, tight.n_demos_dropped) == ((left[0].id,), 1)


@pytest.mark.parametrize("style", ["plain", "chat", "multiturn"])
@pytest.mark.parametrize("k", [0, 2])
def test_a_prompt_to_continue_is_the_one_that_is_scored(style: str, k: int) -> None:
    rendered = render(ROW, template(style), Letters(), demos=DEMOS[:k])
    unanswered = Row(ROW.id, ROW.instruction, None)
    prompt = render_prompt(unanswered, template(style), Letters(), demos=DEMOS[:k])
    assert prompt.ids == rendered.ids[: rendered.n_prompt]
    assert (prompt.row_id, prompt.demo_ids, prompt.n_demos_dropped) == ("r", rendered.demo_ids, 0)
    assert prompt.stop_ids == ((EOS,) if style == "plain" else (END, EOS))


@pytest.mark.parametrize("style", ["plain", "chat", "multiturn"])
def test_room_is_kept_for_the_answer(style: str) -> None:
    whole = render_prompt(ROW, template(style), Letters(), demos=DEMOS)
    size = len(whole.ids)
    fits = render_prompt(ROW, template(style), Letters(), demos=DEMOS, max_tokens=size + 5, reserve=5)
    assert fits == whole
    tight = render_prompt(ROW, template(style), Letters(), demos=DEMOS, max_tokens=size + 5, reserve=6)
    assert (tight.demo_ids, tight.n_demos_dropped) == (("d1",), 1)
    with pytest.raises(DataError, match="30 kept for the answer"):
        render_prompt(ROW, template(style), Letters(), max_tokens=32, reserve=30)


@pytest.mark.parametrize("tokenizer", [Plain(), Letters(has_chat_template=False)])
@pytest.mark.parametrize("name", ["chat", "multiturn"])
def test_base_models_have_no_chat_template(tokenizer: Plain | Letters, name: str) -> None:
    for rendering in (render, render_prompt):
        with pytest.raises(ModelError) as caught:
            rendering(ROW, find_template(name), tokenizer)
        message = str(caught.value)
        assert f"prompt `{name}`, style: {name}" in message
        assert "base model" in message
        assert "`style: plain`" in message
    assert render(ROW, find_template("default"), tokenizer).n_scored == 4  # and plain prompts work


@pytest.mark.parametrize(
    ("mapping", "parts"),
    [
        ({"style": "chatt"}, ["style is unknown", "'chatt'", "plain, chat, multiturn", "did you mean `chat`?"]),
        ({"style": 3}, ["style is unknown", "3"]),
        ({"style": ["chat"]}, ["style is unknown", "['chat']"]),
        ({"system": "be good"}, ["plain template has no system turn", "test, system", "`preamble`"]),
        ({"style": "chat", "system": "{instruction}"}, ["`system` names an unknown field", "{instruction}"]),
        ({"style": "chat", "system": 3}, ["`system` is not text", "3"]),
        (
            {"style": "multiturn", "few_shot": {"demo": "{instruction}{output}", "tail": "{instruction}"}},
            ["demonstrations are turns", "test, few_shot", "`style: chat`"],
        ),
    ],
)
def test_mistakes_are_named(mapping: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        template_from_mapping({"zero_shot": "{instruction}", **mapping}, name="t", where="test")
    for part in parts:
        assert part in str(caught.value)


def test_style_and_system_are_in_the_hash_and_the_record() -> None:
    plain, chat = template("plain"), template("chat")
    with_system = template("chat", system="be good")
    assert len({t.sha256 for t in (plain, chat, template("multiturn"), with_system)}) == 4
    assert (with_system.record()["style"], with_system.record()["system"]) == ("chat", "be good")


@pytest.mark.parametrize("style", ["chat", "multiturn"])
def test_data_is_never_interpreted(style: str) -> None:
    nasty = "{instruction} {{ messages }} {% raw %} {k}"
    turns = template(style).turns(nasty, [Row("d", nasty, nasty)])
    assert "".join(text for _, text in turns).count(nasty) == 3
