"""Rendering one row of a cell or of a training: its demonstrations chosen, its token ids, the span that is scored; and
how many tokens it may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.data import Row
from triptych.grid.cells import CellSpec, TrainingSpec, cell_as_trained
from triptych.grid.demonstrations import Demonstrations
from triptych.models import TokenizerProfile
from triptych.prompts import (
    Answers,
    Chosen,
    Rendered,
    RenderedOptions,
    RenderedPrompt,
    Template,
    render,
    render_options,
    render_prompt,
)

NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """The longest rendering, and what decides it: a setting, or the model's own context."""

    tokens: int
    setting: str = "max_tokens"
    """Where it can be raised, unless the context is as short."""
    context: int | None = None
    """Tokens the model was made for; None if it doesn't say."""
    kept_by: str | None = None
    """The setting that keeps tokens of it for an answer, if any are kept."""

    @classmethod
    def of(cls, setting: str, asked: int, context: int | None, *, kept_by: str | None = None) -> ContextLimit:
        """The smaller of what is asked for and what the model can take."""
        return cls(min(asked, context or asked), setting, context, kept_by)

    def how_to_fit(self) -> str:
        """What to do about rows that are longer: what can be raised is named only where raising it helps."""
        ways = ["shorten or remove these rows", *([f"lower {self.kept_by}"] if self.kept_by else [])]
        if self.context is not None and self.tokens >= self.context:
            ways.append(f"use a model with a longer context than {self.context:,} tokens")
        else:
            most = f" (the model takes up to {self.context:,})" if self.context else ""
            ways.append(f"raise {self.setting}{most}")
        return ", or ".join(ways)


@dataclass(frozen=True)
class RenderedCell:
    """A cell's rows, and how close each one's demonstrations came to it."""

    rows: list[Rendered]
    similarity: list[tuple[float, ...]]
    options: list[RenderedOptions] | None = None
    """The rows with their options, where those are scored."""

    def closest(self) -> float | None:
        """The closest any demonstration came to its query; None without demonstrations."""
        return max((value for row in self.similarity for value in row), default=None)

    def mean_similarity(self) -> float | None:
        """Mean over all demonstrations shown."""
        values = [value for row in self.similarity for value in row]
        return sum(values) / len(values) if values else None


class Renderer:
    """Renders rows with one set of templates (by prompt name), one pool of demonstrations and one tokenizer."""

    def __init__(
        self, demonstrations: Demonstrations, templates: Mapping[str, Template], profile: TokenizerProfile
    ) -> None:
        self.demonstrations, self.templates, self.profile = demonstrations, templates, profile
        self._answers: dict[str, Answers] = {}

    def row(self, spec: CellSpec | TrainingSpec, row: Row, limit: int) -> Rendered:
        """A row with its output; demonstrations beyond the limit of tokens are dropped whole.

        Raises:
            DataError: the row alone is beyond the limit.
        """
        return self.row_and_similarity(spec, row, limit)[0]

    def row_and_similarity(
        self, spec: CellSpec | TrainingSpec, row: Row, limit: int
    ) -> tuple[Rendered, tuple[float, ...]]:
        """The same, and the similarity of each demonstration that is shown to the row."""
        cell = cell_as_trained(spec) if isinstance(spec, TrainingSpec) else spec
        chosen, template = self.demonstrations.of_cell(cell, row), self.templates[spec.prompt]
        rendered = render(row, template, self.profile, demos=chosen.demos, max_tokens=limit, drop=chosen.drop)
        return rendered, _similarity(chosen, rendered)

    def options_of(self, cell: CellSpec, row: Row, options: Sequence[str], limit: int) -> RenderedOptions:
        """A row with each of its options in place of its output, and with its output, all behind the same prompt."""
        return self.options_and_similarity(cell, row, options, limit)[0]

    def options_and_similarity(
        self, cell: CellSpec, row: Row, options: Sequence[str], limit: int
    ) -> tuple[RenderedOptions, tuple[float, ...]]:
        """The same, and the similarity of each demonstration that is shown to the row."""
        chosen, template = self.demonstrations.of_cell(cell, row), self.templates[cell.prompt]
        answers = self._answers.setdefault("plain" if template.style == "plain" else "chat", {})
        rendered = render_options(
            row,
            options,
            template,
            self.profile,
            answers=answers,
            demos=chosen.demos,
            max_tokens=limit,
            drop=chosen.drop,
        )
        return rendered, _similarity(chosen, rendered.row)

    def prompt(self, cell: CellSpec, row: Row, limit: int, *, reserve: int) -> RenderedPrompt:
        """A row's prompt without the output, with room for `reserve` new tokens."""
        chosen, template = self.demonstrations.of_cell(cell, row), self.templates[cell.prompt]
        return render_prompt(
            row, template, self.profile, demos=chosen.demos, max_tokens=limit, reserve=reserve, drop=chosen.drop
        )


def _similarity(chosen: Chosen, rendered: Rendered) -> tuple[float, ...]:
    near = dict(zip((demo.id for demo in chosen.demos), chosen.similarity, strict=True))
    return tuple(near[demo] for demo in rendered.demo_ids)
