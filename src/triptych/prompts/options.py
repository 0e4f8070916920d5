"""A row with each of its options in place of its output, for the metric `accuracy`: one prompt, many answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych.config.choices import MAX_TOKENS
from triptych.data import Row
from triptych.errors import DataError
from triptych.prompts.render import Drop, Ids, Rendered, Tokenizes, fit, rendered_row, with_answer
from triptych.prompts.template import Template

Answers = dict[str, tuple[int, ...]]
"""Text -> token ids of it as an answer in one style, EOS or the end of the turn included."""


@dataclass(frozen=True, slots=True)
class RenderedOptions:
    """One row's prompt with each of its options behind it, and with its reference."""

    row: Rendered
    """The reference behind the prompt."""
    texts: tuple[str, ...]
    """The options."""
    options: tuple[tuple[int, ...], ...]
    """Token ids of each, rendered as an output is."""
    correct: int | None
    """Which of them the reference is; None for none."""

    @property
    def n_chars(self) -> tuple[int, ...]:
        """Characters of each option."""
        return tuple(map(len, self.texts))

    @property
    def reference(self) -> tuple[int, ...]:
        """Token ids of the reference output."""
        return self.row.ids[self.row.n_prompt :]

    @property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """The options, and behind them the reference where it is none of them: all that is scored."""
        return self.options if self.reference in self.options else (*self.options, self.reference)


def render_options(
    row: Row,
    options: Sequence[str],
    template: Template,
    tokenizer: Tokenizes,
    *,
    answers: Answers,
    demos: Sequence[Row] = (),
    max_tokens: int = MAX_TOKENS,
    drop: Drop = "last",
) -> RenderedOptions:
    """Render a row with each of its options in place of its output; room is kept for the longest of them.

    The same answer is the same tokens after every prompt, so that `answers` are made once for a style. A chat template
    could write it otherwise after other turns: that it doesn't is checked on each row with one option, and where it
    does, the row's options are rendered one by one.

    Raises:
        DataError: the row is too long even without demonstrations, or two options are the same tokens.
        ModelError: as in `render`.
    """
    for option in options:
        if option not in answers:
            answers[option] = tuple(with_answer(row, template, tokenizer, option)([])[1])
    made = [answers[option] for option in options]
    longest, with_reference = max(map(len, made)), with_answer(row, template, tokenizer)

    def ids_with(shown: Sequence[Row]) -> Ids:
        prompt, reference = with_reference(shown)
        return prompt, reference + [0] * (longest - len(reference))  # only the length counts

    shown, prompt, _ = fit(row, template, demos, ids_with, max_tokens, "to score", drop)
    reference = with_reference(shown)[1]
    if template.style != "plain":
        proof = row.target() if row.target() in options else options[0]
        ids = reference if proof == row.target() else with_answer(row, template, tokenizer, proof)(shown)[1]
        if tuple(ids) != answers[proof]:
            made = [tuple(with_answer(row, template, tokenizer, option)(shown)[1]) for option in options]
    _check_unlike(options, made, row)
    rendered = rendered_row(row, template, tokenizer, demos, shown, prompt, reference)
    correct = options.index(row.target()) if row.target() in options else None
    return RenderedOptions(rendered, tuple(options), tuple(made), correct)


def _check_unlike(options: Sequence[str], made: Sequence[tuple[int, ...]], row: Row) -> None:
    first: dict[tuple[int, ...], str] = {}
    for option, ids in zip(options, made, strict=True):
        if (other := first.setdefault(ids, option)) != option:
            raise DataError(
                "two options are the same tokens, so the model can't choose between them",
                where=f"row {row.id!r}",
                found=f"{other!r} and {option!r}",
                fix="leave one of them out, or correct the outputs so that they are written alike",
            )
