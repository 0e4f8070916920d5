r"""A model's own chat template, from a conversation to token ids, with the data kept data.

What transformers' `apply_chat_template` does is: run the template (Jinja), then tokenize the text it wrote, in which
control tokens such as `<|im_end|>` are found by their spelling, wherever they stand. A row that spells one would end
its own turn. So here, for every conversation:

    1. control tokens spelled in the data are masked, each by one private-use character; the template sees the rest
       as it is and may trim it
    2. the template runs as in transformers, within bounds (`chat_limits`); where it asks for the date, it is always
       the same day
    3. control tokens in what it wrote are now the template's own; each becomes another private-use character
    4. the masks of step 1 are replaced by what they hide
    5. a twin of the tokenizer that knows the control tokens by those characters only tokenizes the whole text at once

On text that spells no control token, steps 1 and 4 do nothing and the twin's ids are those of `apply_chat_template`:
the same text, cut at the same places, by the same tokenizer. On text that does, the spelling is tokenized as the
letters it consists of. Control tokens are the tokenizer's special tokens, and other added tokens that the template
writes and that look like markup (`<think>`). The private-use characters are chosen to occur nowhere in the data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from triptych.errors import DataError, ModelError
from triptych.models.chat_limits import BoundedTemplate, OutOfBoundsError
from triptych.models.twin import TwinTokenizer

Turns = Sequence[tuple[str, str]]

_PRIVATE, _PRIVATE_END = 0x100000, 0x10FFFE  # the last plane of Unicode, private use: texts don't have these
_MARKUP = re.compile(r"[<\[|].*[>\]|]", re.DOTALL)
_DATE = {"%d": "26", "%-d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24", "%H:%M": "12:00"}
"""Some templates write the day's date, and a score must not depend on the day."""
_PROBE = [("user", "a b, 1\n\n文 é"), ("assistant", "c d 字.")]


class ChatFormat:
    """The chat template of a transformers tokenizer; `eos_id` ends a turn that the template doesn't end itself.

    Every method raises ModelError if the template refuses the conversation or can't be used as described above, and
    DataError if the data can't be kept data.
    """

    def __init__(self, tokenizer: Any, eos_id: int) -> None:
        self._tokenizer, self._eos_id = tokenizer, eos_id
        self._twins: dict[int, TwinTokenizer] = {}
        self._last: tuple[Turns, tuple[TwinTokenizer, str, str, str]] | None = None

    def prompt(self, turns: Turns) -> list[int]:
        """Token ids of a conversation, up to where the assistant's answer begins."""
        twin = self._twin(turns)
        return twin.ids(self._before_answer(turns, twin))

    def with_answer(self, turns: Turns, answer: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt, as `prompt` gives them, and of the answer with the token that ends its turn.

        Where letters of the answer would share a token with the prompt's last letters (an answer that begins with a
        line break may), they are tokenized apart, as in the study's protocol: no generated answer could share it.
        """
        twin, before, text, after = self._answered(turns, answer)
        end = twin.end_of_turn(after)
        text = text[: len(text) - len(after)] + end
        rest = [] if end else [self._eos_id]
        prompt, ids = twin.ids(before), twin.ids(text)
        if ids[: len(prompt)] == prompt:
            return prompt, ids[len(prompt) :] + rest
        return prompt, twin.ids(text[len(before) :], apart=True) + rest

    def answer_chars(self, turns: Turns, answer: str) -> int:
        """Characters of an answer that the template leaves: it may trim spaces, or take a part out (a thought)."""
        _, before, text, after = self._answered(turns, answer)
        left = text[len(before) : len(text) - len(after)]
        for part in (answer, answer.lstrip(), answer.rstrip(), answer.strip()):
            if part in left:
                return len(part)
        return min(len(answer), len(left.strip()))

    def _answered(self, turns: Turns, answer: str) -> tuple[TwinTokenizer, str, str, str]:
        """The twin, the text before the answer, the whole text, and the text after the answer; the last is cached."""
        whole = (*turns, ("assistant", answer))
        if self._last is None or self._last[0] != whole:
            twin = self._twin(whole)
            before, after = self._before_answer(turns, twin), self._around_answer(turns, twin)[1]
            text = self._written(whole, twin)
            if not (text.startswith(before) and text.endswith(after)):
                raise self._unusable(
                    "it writes the turns before an answer, or the answer's end, otherwise for another answer"
                )
            self._last = whole, (twin, before, text, after)
        return self._last[1]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends an assistant's turn: the template's end of turn, and EOS."""
        twin = self._twin([])
        end = twin.end_of_turn(self._around_answer(_PROBE[:1], twin)[1])
        control = [id for id in twin.ids(end) if id in self._control.values()]
        return tuple(dict.fromkeys([*control[:1], self._eos_id]))

    def _written(self, turns: Turns, twin: TwinTokenizer, *, generate: bool = False) -> str:
        """The template's text: its control tokens marked, the data's spelling of them as it was."""
        messages = [{"role": role, "content": twin.mask(text)} for role, text in turns]
        try:
            special = {str(name): str(token) for name, token in self._tokenizer.special_tokens_map.items()}
            text = self._compiled.render(
                {"tools": None, "documents": None, **special, "messages": messages, "add_generation_prompt": generate}
            )
        except OutOfBoundsError as error:
            raise self._unusable(str(error)) from error
        except Exception as error:  # a template is a program: it can fail in every way there is
            raise self._unusable(
                f"{error or type(error).__name__} (for the turns {', '.join(role for role, _ in turns)})"[:1000],
                fix="where the model knows no system turn, put that text into `preamble` instead of `system`",
            ) from error
        return twin.unmask(twin.mark(str(text)))

    def _before_answer(self, turns: Turns, twin: TwinTokenizer) -> str:
        """All that the template writes before an answer.

        That is its generation prompt; or more, where it puts more than spaces between that and an answer (an empty
        `<think>` block); or what an answered conversation begins with, where the two differ. Spaces after the
        generation prompt belong to the answer: a generated one begins with them.
        """
        before = self._around_answer(turns, twin)[0]
        generation_prompt = self._written(turns, twin, generate=True)
        between = before.removeprefix(generation_prompt)
        return generation_prompt if between != before and not between.strip() else before

    def _around_answer(self, turns: Turns, twin: TwinTokenizer) -> tuple[str, str]:
        """What stands before an answer and what after it."""
        around = self._written([*turns, ("assistant", twin.boundary)], twin).split(twin.boundary)
        if len(around) != 2:
            raise self._unusable(f"it writes an answer {len(around) - 1} times instead of once")
        return around[0], around[1]

    @cached_property
    def _compiled(self) -> BoundedTemplate:
        return BoundedTemplate(self._template)

    @cached_property
    def _template(self) -> str:
        """The template, with its clock stopped if it asks for the time."""
        try:
            template = str(self._tokenizer.get_chat_template())
        except ValueError as error:  # several, and none that is the default
            raise self._unusable(str(error)) from error
        if "strftime_now" not in template:
            return template
        steps = "".join(f" | replace('{field}', '{value}')" for field, value in _DATE.items())
        return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}{template}"

    @cached_property
    def _control(self) -> dict[str, int]:
        """Spelling and id of each control token."""
        return {
            token.content: id
            for id, token in self._tokenizer.added_tokens_decoder.items()
            if token.special or (token.content in self._template and _MARKUP.fullmatch(token.content))
        }

    def _twin(self, turns: Turns) -> TwinTokenizer:
        """The twin whose private-use characters occur nowhere in these turns."""
        size = 2 * len(self._control) + 1
        private = {ord(c) for _, text in turns for c in text if ord(c) >= _PRIVATE}
        for start in range(_PRIVATE, _PRIVATE_END - size, size):
            if private.isdisjoint(range(start, start + size)):
                break
        else:
            raise DataError(
                "a row uses up Unicode's last private-use plane, so no character is left to mark turns with",
                expected="text without U+100000 to U+10FFFD",
            )
        if start not in self._twins:
            backend = getattr(self._tokenizer, "backend_tokenizer", None)
            if backend is None:
                raise self._unusable("its tokenizer is not one of the `tokenizers` library (tokenizer.json)")
            twin = self._twins[start] = TwinTokenizer(backend, self._control, start)
            ours = twin.ids(self._written(_PROBE, twin))  # first: within bounds
            messages = [{"role": role, "content": text} for role, text in _PROBE]
            theirs = self._tokenizer.apply_chat_template(messages, return_dict=False, chat_template=self._template)
            if ours != list(theirs):
                raise self._unusable("the tokenizer does more than its tokenizer.json says, so data can't be kept data")
        return self._twins[start]

    def _unusable(self, found: str, fix: str | None = None) -> ModelError:
        return ModelError(
            "the model's chat template can't be used",
            where=str(getattr(self._tokenizer, "name_or_path", "")) or None,
            found=found,
            fix=fix or "use a prompt with `style: plain`",
        )
