"""The language of texts, as far as anything depends on it: Chinese, English, or any other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

Language = Literal["zh", "en", "other"]

_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
_WORDS = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    {
        *("the", "and", "that", "this", "with", "from", "you", "your", "are", "were", "been", "which", "what", "how"),
        *("when", "why", "would", "can", "could", "should", "not", "it", "they", "their", "there", "of", "does", "did"),
        *("she", "his", "my"),
    }
)
"""Words that English texts are full of, and that are rare in other languages."""
_ENGLISH_SHARE = 0.08
_JAPANESE_OR_KOREAN_SHARE = 0.05


def language_of(texts: Iterable[str]) -> Language:
    """What most of the texts' letters are written in.

    Chinese: more than half of all letters are Chinese characters, and hardly any are kana or hangul, since Japanese and
    Korean have Chinese characters too. English: otherwise, one word in twelve is such as English is full of.
    """
    whole = "\n".join(texts)
    if in_chinese_characters(whole):
        others = len(_KANA_OR_HANGUL.findall(whole))
        return "other" if others > _JAPANESE_OR_KOREAN_SHARE * sum(map(str.isalpha, whole)) else "zh"
    words = _WORDS.findall(whole.lower())
    english = sum(word in _ENGLISH for word in words)
    return "en" if words and english >= _ENGLISH_SHARE * len(words) else "other"


def in_chinese_characters(text: str) -> bool:
    """Whether more than half of a text's letters are Chinese characters, so that it is cut by character."""
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(unicodedata.name(letter, "").startswith("CJK ") for letter in letters) > len(letters)
