"""Where a row ends: a stop token, a stop text, its limit. And what its text is then.

A base model continues with the next demonstration or the next turn instead of ending. The texts that a template puts
around outputs show where one is over, so it ends there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from triptych.generate.choose import Repeats
from triptych.generate.settings import Generated, GenerationSettings, StoppedBy
from triptych.prompts import RenderedPrompt, Template, pieces_of

_NUMBERS = ("i", "k")
_DISTINCT = 4  # characters that are needed to distinguish a template's text from an output's
_TAIL = 48  # tokens looked at for a stop text: more than any template's piece has between two fields


def patterns_of(template: Template, *, shots: int) -> tuple[str, ...]:
    """Regular expressions for what a template puts around outputs: where one of them begins, the output is over.

    These are the fixed texts of the zero-shot text (`USER:`); with demonstrations those of a demonstration and the tail
    too (`第2個例子，USER:` with any number), and the line break (with what is around it) that ends a demonstration, if
    one does. None in styles with turns: there the model's own end of turn ends an output.
    """
    if template.style != "plain":
        return ()
    patterns: dict[str, None] = {}
    if shots:
        demo = pieces_of(template.few_shot.demo)
        last = max(at for at, (_, name) in enumerate(demo) if name == "output")
        if "\n" in (separator := demo[last + 1][0]):
            patterns[re.escape(separator)] = None
    of_shots = (template.few_shot.demo, template.few_shot.tail) if shots else ()
    for text in (*of_shots, template.zero_shot):
        for piece in _between_texts(text):
            if len("".join(literal or "" for literal in piece).strip()) >= _DISTINCT:
                patterns[_pattern(piece)] = None
    return tuple(patterns)


def _between_texts(text: str) -> list[list[str | None]]:
    """Pieces between the fields of free text, each of fixed texts and of numbers (None)."""
    pieces: list[list[str | None]] = [[]]
    for literal, name in pieces_of(text):
        if name is None or name in _NUMBERS:
            pieces[-1].append(literal if name is None else None)
        else:
            pieces.append([])
    return pieces


def _pattern(piece: Sequence[str | None]) -> str:
    parts = [part for part in piece if part != ""]
    if parts and parts[0] is not None:
        parts[0] = parts[0].lstrip()
    if parts and parts[-1] is not None:
        parts[-1] = parts[-1].rstrip()
    return "".join(r"\d+" if part is None else re.escape(part) for part in parts)


class DecodeState:
    """A row while it is written: a prompt, and at most `limit` new tokens."""

    def __init__(self, prompt: RenderedPrompt, limit: int, settings: GenerationSettings, tokenizer: Any) -> None:
        self._prompt, self._limit, self._tokenizer = prompt, limit, tokenizer
        self._stop_ids = frozenset(prompt.stop_ids)
        self._patterns = [re.compile(pattern) for pattern in settings.stop_patterns]
        self._repeats = Repeats(settings.no_repeat_ngram, prompt.ids) if settings.no_repeat_ngram else None
        self.ids: list[int] = []
        self.stopped_by: StoppedBy | None = None

    def add(self, token: int) -> bool:
        """Add the next token; True when the row is over."""
        self.ids.append(token)
        if self._repeats:
            self._repeats.add(token)
        if token in self._stop_ids:
            self.stopped_by = "eos"
        elif self._patterns and self._stop_at(self._text(self.ids[-_TAIL:])) is not None:
            self.stopped_by = "stop_text"
        elif len(self.ids) >= self._limit:
            self.stopped_by = "length"
        return self.stopped_by is not None

    def banned(self) -> Collection[int]:
        """Tokens that may not come next."""
        return self._repeats.banned() if self._repeats else ()

    def take(self, tokens: Sequence[int]) -> None:
        """Add tokens until the row is over; the rest is padding."""
        for token in tokens:
            if self.add(token):
                return
        self.stopped_by = self.stopped_by or "length"

    def done(self) -> Generated:
        """What was written."""
        assert self.stopped_by is not None
        text = self._text(self.ids)
        if self.stopped_by == "stop_text":
            text = text[: self._stop_at(text)]
        elif self.stopped_by == "length":
            text = text.rstrip("\ufffd")  # the first bytes of a character that was cut
        # a space at its beginning separates prompt and output (`ASSISTANT: …`) and belongs to neither
        return Generated(self._prompt.row_id, text.strip(), len(self.ids), self.stopped_by, tuple(self.ids))

    def _text(self, ids: Sequence[int]) -> str:
        ids = [token for token in ids if token not in self._stop_ids]  # not every stop id is marked as special
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _stop_at(self, text: str) -> int | None:
        return min((match.start() for p in self._patterns if (match := p.search(text))), default=None)
