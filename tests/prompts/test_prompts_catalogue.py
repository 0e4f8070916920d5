"""Every prompt that ships: valid, rendered, said where it comes from."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

from triptych.data import Row
from triptych.prompts import Template, catalogue

ALL = list(catalogue().values())
DEMOS = (Row("d1", "一一", "甲甲"), Row("d2", "二二", "乙乙"))
FRAME = catalogue()["default"].few_shot


def named(template: Template) -> str:
    return template.name


def test_what_ships() -> None:
    names = set(catalogue())
    assert {f"ep{n:02d}-{language}" for n in range(1, 12) for language in ("zh", "en")} <= names
    assert {"default", "emotional", "bare", "chat", "multiturn"} <= names
    pairs = ("role", "instruction-first", "translation")
    assert {f"{what}-{language}" for what in pairs for language in ("zh", "en")} <= names
    assert sum(name.startswith("neutral-") for name in names) >= 4


@pytest.mark.parametrize("template", ALL, ids=named)
def test_says_what_it_is(template: Template) -> None:
    assert template.language in ("zh-Hant", "zh", "en", "any")
    assert template.source
    assert template.description


@pytest.mark.parametrize("template", ALL, ids=named)
def test_file_has_the_prompts_name(template: Template) -> None:
    content = (files("triptych.prompts") / "catalogue" / f"{template.name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(content)["name"] == template.name


@pytest.mark.parametrize("template", ALL, ids=named)
def test_renders_with_and_without_demos(template: Template) -> None:
    for demos in ((), DEMOS[:1], DEMOS):
        text = "\n".join(text for _, text in template.turns("天亮了。", demos))
        assert text.count("天亮了。") == 1
        for demo in DEMOS:
            assert text.count(demo.instruction) == text.count(demo.target()) == (demo in demos)
        assert not any(field in text for field in ("{preamble}", "{instruction}", "{output}", "{k}", "{i}"))
        assert template.preamble.strip() in text
        assert template.turns("天亮了。", demos)[-1][0] == "user"


@pytest.mark.parametrize("template", [t for t in ALL if t.style == "plain"], ids=named)
def test_plain_prompts_end_where_the_output_belongs(template: Template) -> None:
    for demos in ((), DEMOS):
        text = template.prompt("天亮了。", demos)
        assert text[-1] in ":：。>\n"
        assert text == text.rstrip(" ")  # a space at the end would be a token that no output follows naturally


def test_no_two_prompts_are_the_same() -> None:
    assert len({template.sha256 for template in ALL}) == len(ALL)


@pytest.mark.parametrize("n", range(1, 12))
def test_emotional_stimuli(n: int) -> None:
    zh, en = catalogue()[f"ep{n:02d}-zh"], catalogue()[f"ep{n:02d}-en"]
    assert zh.preamble.startswith(catalogue()["default"].preamble)  # the study's prompt and a sentence more
    assert len(zh.preamble) > len(catalogue()["default"].preamble)
    assert (zh.few_shot, zh.zero_shot) == (FRAME, catalogue()["default"].zero_shot)
    assert en.preamble.startswith(catalogue()["neutral-en"].preamble + " ")
    assert (en.few_shot, en.zero_shot) == (catalogue()["neutral-en"].few_shot, catalogue()["neutral-en"].zero_shot)
    for template in (zh, en):
        assert f"EP{n:02d}" in template.source
        assert "arXiv 2307.11760" in template.source
        theories = ("self-monitoring", "social cognitive theory", "cognitive emotion regulation")
        assert any(theory in template.source for theory in theories)


@pytest.mark.parametrize("name", ["role-zh", "translation-zh"])
def test_chinese_prompts_keep_the_studys_frame(name: str) -> None:
    template = catalogue()[name]
    assert template.few_shot == FRAME
    assert template.zero_shot == catalogue()["default"].zero_shot


def test_bare_is_the_instruction() -> None:
    assert catalogue()["bare"].prompt("天亮了。") == "天亮了。"


def test_chinese_prompts_for_both_scripts_hold_no_character_of_one_alone() -> None:
    """Characters of which one script has another form, among those that such prompts would need."""
    one_script = set(
        "指導导請请問问說说這这為为個个們们對对寫写譯译開开時时務务題题閱读讀語语說話话當当樣样來来麼么從从應应會会給给將将"
    )
    one_script -= set("指")
    for template in ALL:
        if template.language == "zh":
            assert not one_script & set(template.zero_shot + template.preamble + str(template.few_shot))
