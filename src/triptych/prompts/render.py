"""One row, one rendering: the only place where text becomes the tokens that are trained on, scored or continued.

Protocol `hw3`, for templates of style `plain`:

    [BOS]  p1 p2 … pm   o1 o2 … on  [EOS]
           └ prompt ┘   └─── scored ────┘
    ids[0 : n_prompt]   ids[n_prompt : ]          n_prompt = 1 + m with a BOS, m without

Prompt and output are tokenized separately, without special tokens. The token at position t is predicted from the
tokens before it, so each scored token is predicted exactly once, the first of them from the last prompt token.

Styles `chat` and `multiturn` put the same texts into the model's own chat template, which then decides on BOS and on
how a turn ends: scored are the assistant's answer and the token that ends its turn (`models.chat` says how).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from triptych.config.choices import MAX_TOKENS
from triptych.data import Row
from triptych.errors import DataError, ModelError
from triptych.prompts.template import Template

Drop = Literal["last", "first"]
"""From which end demonstrations are dropped that don't fit."""

Ids = tuple[list[int], list[int]]
"""Token ids of a prompt, and of the answer behind it."""


class Tokenizes(Protocol):
    """What rendering needs of a tokenizer (`models.TokenizerProfile` is the real one)."""

    @property
    def bos_id(self) -> int | None:
        """Put before the prompt; None for models without one."""

    @property
    def eos_id(self) -> int:
        """Put after the output, and scored."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""


@runtime_checkable
class Chats(Protocol):
    """What rendering in styles `chat` and `multiturn` needs beside; turns are (role, text)."""

    @property
    def has_chat_template(self) -> bool:
        """Whether the model comes with a chat template."""

    def chat_prompt(self, turns: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation, up to where the assistant's answer begins."""

    def chat(self, turns: Sequence[tuple[str, str]], answer: str) -> tuple[list[int], list[int]]:
        """The same, and the ids of the answer with the token that ends its turn."""

    def chat_answer_chars(self, turns: Sequence[tuple[str, str]], answer: str) -> int:
        """Characters of the answer that the template leaves, and so are scored."""

    def chat_stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant's turn, when text is generated."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of one row and the span that is scored: `ids[n_prompt:]`, the output's tokens and EOS."""

    row_id: str
    ids: tuple[int, ...]
    n_prompt: int
    n_chars: int
    """Characters of the output that are scored: all, but for those that a chat template takes off it."""
    demo_ids: tuple[str, ...] = ()
    n_demos_dropped: int = 0

    @property
    def n_scored(self) -> int:
        """Scored tokens."""
        return len(self.ids) - self.n_prompt


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """Token ids of one row's prompt, to be continued: what `Rendered.ids[:n_prompt]` is where both fit."""

    row_id: str
    ids: tuple[int, ...]
    demo_ids: tuple[str, ...] = ()
    n_demos_dropped: int = 0
    stop_ids: tuple[int, ...] = ()
    """Any of these ends the answer and is no part of its text."""


def render(
    row: Row,
    template: Template,
    tokenizer: Tokenizes,
    *,
    demos: Sequence[Row] = (),
    max_tokens: int = MAX_TOKENS,
    drop: Drop = "last",
) -> Rendered:
    """Render a row with its output.

    Demonstrations that don't fit `max_tokens` are dropped whole, from the end that `drop` names, and counted; the
    numbers in the prompt's text are those of the demonstrations that are left.

    Raises:
        DataError: the row is too long even without demonstrations.
        ModelError: nothing stands before the first scored token, so nothing can predict it; or the template's style
            needs a chat template and the model has none that can be used.
    """
    shown, prompt, answer = fit(
        row, template, demos, with_answer(row, template, tokenizer), max_tokens, "to score", drop
    )
    return rendered_row(row, template, tokenizer, demos, shown, prompt, answer)


def with_answer(row: Row, template: Template, tokenizer: Tokenizes, answer: str | None = None) -> Callable[..., Ids]:
    """From the demonstrations that are shown to the ids of prompt and answer; the answer is the row's output, or is
    given.
    """
    text = row.target() if answer is None else answer
    if template.style == "plain":
        output = [*tokenizer.encode(text), tokenizer.eos_id]
        return lambda shown: (_plain_prompt(row, template, tokenizer, shown), output)
    return lambda shown: _chats(template, tokenizer).chat(template.turns(row.instruction, shown), text)


def rendered_row(
    row: Row,
    template: Template,
    tokenizer: Tokenizes,
    demos: Sequence[Row],
    shown: Sequence[Row],
    prompt: Sequence[int],
    answer: Sequence[int],
) -> Rendered:
    """The record of a row whose prompt shows these of its demonstrations."""
    n_chars = len(row.target())
    if template.style != "plain":
        n_chars = _chats(template, tokenizer).chat_answer_chars(template.turns(row.instruction, shown), row.target())
    return Rendered(
        row_id=row.id,
        ids=(*prompt, *answer),
        n_prompt=len(prompt),
        n_chars=n_chars,
        demo_ids=tuple(demo.id for demo in shown),
        n_demos_dropped=len(demos) - len(shown),
    )


def render_prompt(
    row: Row,
    template: Template,
    tokenizer: Tokenizes,
    *,
    demos: Sequence[Row] = (),
    max_tokens: int = MAX_TOKENS,
    reserve: int = 0,
    drop: Drop = "last",
) -> RenderedPrompt:
    """Render a row without its output (it may have none), for the model to continue.

    `reserve` tokens of `max_tokens` are kept for the answer. Demonstrations are dropped as `render` drops them.

    Raises:
        DataError: the prompt is too long even without demonstrations.
        ModelError: as in `render`.
    """
    answer, plain = [0] * reserve, template.style == "plain"  # only the answer's length counts

    def ids_with(shown: Sequence[Row]) -> Ids:
        if plain:
            return _plain_prompt(row, template, tokenizer, shown), answer
        return _chats(template, tokenizer).chat_prompt(template.turns(row.instruction, shown)), answer

    stop_ids = (tokenizer.eos_id,) if plain else _chats(template, tokenizer).chat_stop_ids()
    shown, prompt, _ = fit(row, template, demos, ids_with, max_tokens, "kept for the answer", drop)
    return RenderedPrompt(
        row_id=row.id,
        ids=tuple(prompt),
        demo_ids=tuple(demo.id for demo in shown),
        n_demos_dropped=len(demos) - len(shown),
        stop_ids=stop_ids,
    )


def _plain_prompt(row: Row, template: Template, tokenizer: Tokenizes, demos: Sequence[Row]) -> list[int]:
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return start + tokenizer.encode(template.prompt(row.instruction, demos))


def _chats(template: Template, tokenizer: Tokenizes) -> Chats:
    if not isinstance(tokenizer, Chats) or not tokenizer.has_chat_template:
        raise ModelError(
            "the prompt needs a chat template and the model has none: it is a base model, or its tokenizer lacks it",
            where=f"prompt `{template.name}`, style: {template.style}",
            expected="`chat_template` in tokenizer_config.json, or chat_template.jinja, beside the weights",
            fix="use a prompt with `style: plain`, or a model that was tuned for conversations",
        )
    return tokenizer


def fit(
    row: Row,
    template: Template,
    demos: Sequence[Row],
    ids_with: Callable[[Sequence[Row]], Ids],
    max_tokens: int,
    what_follows: str,
    drop: Drop,
) -> tuple[Sequence[Row], list[int], list[int]]:
    """As many demonstrations as fit, and the ids of prompt and answer with them."""
    for count in range(len(demos), -1, -1):
        shown = demos[:count] if drop == "last" else demos[len(demos) - count :]
        prompt, answer = ids_with(shown)
        if len(prompt) + len(answer) <= max_tokens:
            break
    else:
        raise DataError(
            "a row is longer than the model's context, even without demonstrations",
            where=f"row {row.id!r}, prompt `{template.name}`",
            found=f"{len(prompt) + len(answer)} tokens ({len(prompt)} of prompt, {len(answer)} {what_follows})",
            expected=f"at most {max_tokens}",
            fix="shorten or remove the row",
        )
    if not prompt:
        raise ModelError(
            "the prompt has no tokens and the model has no BOS: nothing can predict the first output token",
            where=f"row {row.id!r}, prompt `{template.name}`",
            fix="use a template with some text, or a model with a BOS token",
        )
    return shown, prompt, answer
