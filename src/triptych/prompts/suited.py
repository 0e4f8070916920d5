"""Which of the prompts that ship suit a model and the language of its data: where nobody names any.

a model with chat template      chat, and one that asks for the answer alone in the data's language; demonstrations
                                are turns of the conversation
without, rows of the study      default and emotional: the study's own
without, any other rows         two of no particular task, in the data's language
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from triptych.config.strategies import ZeroShotConfig
from triptych.data.language import Language

STUDY = ZeroShotConfig().prompts
"""The study's prompts: Chinese, and their demonstrations are announced as translations into classical Chinese."""
_CHAT: dict[Language, tuple[str, ...]] = {
    "zh": ("chat", "chat-brief-zh"),
    "en": ("chat", "chat-brief-en"),
    "other": ("chat",),
}
_PLAIN: dict[Language, tuple[str, ...]] = {
    "zh": ("neutral-task-zh", "neutral-headings-zh"),
    "en": ("neutral-task-en", "neutral-headings-en"),
    "other": ("bare", "neutral-arrow"),
}
_CLASSICAL = re.compile("文言|白[話话]|古[文代漢汉]|[現现]代[文漢汉]")
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class SuitedPrompts:
    """Names of prompts that ship, by what they are for."""

    zero_shot: tuple[str, ...]
    """To compare with each other; the first is the plainest."""
    few_shot: str
    """With demonstrations."""
    trained: str
    """To fine-tune with."""


def suited_prompts(*, chat: bool, language: Language, study: bool) -> SuitedPrompts:
    """The prompts for a model with (`chat`) or without chat template; `study`: the rows are the study's task."""
    if chat:
        names = _CHAT[language]
        return SuitedPrompts(names, "multiturn", names[0])
    names = STUDY if study else _PLAIN[language]
    return SuitedPrompts(names, names[0], names[0])


def asks_for_classical(instructions: Iterable[str]) -> bool:
    """Whether most instructions ask for classical or modern Chinese, as the study's do."""
    every = list(instructions)
    return sum(bool(_CLASSICAL.search(text)) for text in every) > _SHARE * len(every)
