"""The settings of generation: how a token is chosen, and when a row ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from triptych.config.generate import DecodingConfig
from triptych.errors import ModelError
from triptych.prompts import RenderedPrompt

StoppedBy = Literal["eos", "stop_text", "length"]
"""`eos`: the model ended it (EOS, end of turn). `stop_text`: a text of the prompt began. `length`: it was cut."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote for one row."""

    row_id: str
    text: str
    """New tokens decoded, special ones and surrounding white space left out, cut before a stop text."""
    n_tokens: int
    """Tokens the model wrote, the one that ended it included."""
    stopped_by: StoppedBy
    ids: tuple[int, ...] = ()
    """Those tokens."""


class GenerationSettings(DecodingConfig):
    """How to write, and where a row ends."""

    max_new_ratio: float | None = Field(None, gt=0)
    """Most new tokens per token of a row's prompt, demonstrations included; None: no such limit."""
    stop_patterns: tuple[str, ...] = ()
    """Regular expressions: a row ends where one begins (`stops.patterns_of` reads them off a template)."""

    @field_validator("stop_patterns")
    @classmethod
    def _check_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"regular expressions, and {pattern!r} is none: {error}") from error
        return value

    def limit(self, prompt: RenderedPrompt, context: int | None) -> int:
        """Most new tokens of a row: bounded by the settings and by what the context has left.

        Raises:
            ModelError: the prompt fills the context.
        """
        most = self.max_new_tokens
        if self.max_new_ratio is not None:
            most = min(most, max(1, round(self.max_new_ratio * len(prompt.ids))))
        if context is None:
            return most
        if len(prompt.ids) >= context:
            raise ModelError(
                "a prompt leaves no room for an output in the model's context",
                where=f"row {prompt.row_id!r}",
                found=f"{len(prompt.ids)} tokens",
                expected=f"less than {context}",
                fix="show fewer demonstrations, or shorten the row",
            )
        return min(most, context - len(prompt.ids))

    def record(self) -> dict[str, Any]:
        """For records and for telling one run from another."""
        return self.model_dump(mode="json")
