"""One row, one rendering: the only place where text becomes the tokens that are trained on, scored or continued.

Protocol `hw3`:

    [BOS]  p1 p2 … pm   o1 o2 … on  [EOS]
           └ prompt ┘   └─── scored ────┘
    ids[0 : n_prompt]   ids[n_prompt : ]          n_prompt = 1 + m with a BOS, m without

Prompt and output are tokenized separately, without special tokens. The token at position t is predicted from the
tokens before it, so each scored token is predicted exactly once, the first of them from the last prompt token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from triptych.data import Row
from triptych.errors import DataError, ModelError
from triptych.prompts.template import Template

__all__ = ["MAX_TOKENS", "Rendered", "Tokenizes", "render"]

MAX_TOKENS = 2048
"""The protocol's limit for BOS + prompt + output + EOS."""


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


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids of one row and the span that is scored: `ids[n_prompt:]`, the output's tokens and EOS."""

    row_id: str
    ids: tuple[int, ...]
    n_prompt: int
    n_chars: int
    demo_ids: tuple[str, ...] = ()
    n_demos_dropped: int = 0

    @property
    def n_scored(self) -> int:
        """Scored tokens."""
        return len(self.ids) - self.n_prompt


def render(
    row: Row,
    template: Template,
    tokenizer: Tokenizes,
    *,
    demos: Sequence[Row] = (),
    max_tokens: int = MAX_TOKENS,
) -> Rendered:
    """Render a row with its output.

    Demonstrations that don't fit `max_tokens` are dropped whole, the last first, and counted; the numbers in the
    prompt's text are those of the demonstrations that are left.

    Raises:
        DataError: the row is too long even without demonstrations.
        ModelError: nothing stands before the first scored token, so nothing can predict it.
    """
    output = [*tokenizer.encode(row.target()), tokenizer.eos_id]
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for shown in range(len(demos), -1, -1):
        prompt = start + tokenizer.encode(template.prompt(row.instruction, demos[:shown]))
        if len(prompt) + len(output) <= max_tokens:
            break
    else:
        raise DataError(
            "a row is longer than the model's context, even without demonstrations",
            where=f"row {row.id!r}, prompt `{template.name}`",
            found=f"{len(prompt) + len(output)} tokens ({len(prompt)} of prompt, {len(output)} to score)",
            expected=f"at most {max_tokens}",
            fix="shorten or remove the row, or raise max_tokens if the model's context allows it",
        )
    if not prompt:
        raise ModelError(
            "the prompt has no tokens and the model has no BOS: nothing can predict the first output token",
            where=f"row {row.id!r}, prompt `{template.name}`",
            fix="use a template with some text, or a model with a BOS token",
        )
    return Rendered(
        row_id=row.id,
        ids=(*prompt, *output),
        n_prompt=len(prompt),
        n_chars=len(row.target()),
        demo_ids=tuple(demo.id for demo in demos[:shown]),
        n_demos_dropped=len(demos) - shown,
    )
