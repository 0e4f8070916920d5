"""The prompts that suit a model and the language of its data."""

from __future__ import annotations

from typing import get_args

import pytest

from triptych.config.strategies import FewShotConfig, QloraConfig, ZeroShotConfig
from triptych.data.language import Language
from triptych.prompts import find_template
from triptych.prompts.suited import asks_for_classical, suited_prompts

LANGUAGES: tuple[Language, ...] = get_args(Language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_chat_template_is_used_and_demonstrations_are_turns(language: Language) -> None:
    suited = suited_prompts(chat=True, language=language, study=True)
    assert [find_template(name).style for name in suited.zero_shot] == ["chat"] * len(suited.zero_shot)
    assert find_template(suited.few_shot).style == "multiturn"
    assert find_template(suited.trained).style == "chat"
    # without demonstrations, the conversation of the one is that of the other
    assert find_template(suited.few_shot).turns("ask") == find_template(suited.zero_shot[0]).turns("ask")


def test_the_study_keeps_its_prompts() -> None:
    suited = suited_prompts(chat=False, language="zh", study=True)
    assert suited.zero_shot == ZeroShotConfig().prompts == ("default", "emotional")
    assert (suited.few_shot,) == FewShotConfig().prompts
    assert suited.trained == QloraConfig().prompt


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("chat", [True, False])
def test_others_are_of_no_task_and_in_the_datas_language(language: Language, chat: bool) -> None:
    suited = suited_prompts(chat=chat, language=language, study=False)
    spoken = {"zh": {"zh", "any"}, "en": {"en", "any"}, "other": {"any"}}[language]
    for name in (*suited.zero_shot, suited.few_shot, suited.trained):
        template = find_template(name)
        assert template.language in spoken
        assert (template.style == "plain") == (not chat)
        assert "文言" not in str(template.texts())
    assert len(suited.zero_shot) > 1 or (chat and language == "other")


def test_what_asks_for_classical_chinese() -> None:
    assert asks_for_classical(["翻譯成文言文：\n天亮了", "把下面的句子翻译成现代文：", "評價：好"])
    assert not asks_for_classical(["評價這家酒店：很好", "翻譯成文言文：天亮了"])
    assert not asks_for_classical([])
