"""Whether texts are Chinese: decided here for every metric that cuts texts into words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def is_chinese(texts: Iterable[str]) -> bool:
    """Whether more than half of the letters of these texts are Chinese characters."""
    letters = [character for text in texts for character in text if character.isalpha()]
    chinese = sum(unicodedata.name(character, "").startswith("CJK ") for character in letters)
    return chinese * 2 > len(letters)
