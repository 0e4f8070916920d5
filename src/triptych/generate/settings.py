"""What decides what is written: how a token is chosen, and when a row ends."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from triptych.errors import ConfigError, ModelError

__all__ = ["Generated", "GenerationSettings", "Prompt", "StoppedBy"]

StoppedBy = Literal["eos", "stop_text", "length"]
"""`eos`: the model ended it (EOS, end of turn). `stop_text`: it began what a prompt has there. `length`: it was cut."""


class Prompt(Protocol):
    """What is continued (`prompts.render_prompt` makes them)."""

    @property
    def row_id(self) -> str:
        """Whose prompt it is."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids, BOS included, no output."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end the output: EOS, and a chat template's end of turn."""


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


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to write. The default is greedy: the likeliest token, always.

    Raises:
        ConfigError: a setting is out of range, or two of them contradict each other.
    """

    max_new_tokens: int = 256
    """No row gets more."""
    max_new_ratio: float | None = None
    """No row gets more than so many new tokens per token of its prompt, demonstrations included; None: no rule."""
    temperature: float = 0.0
    """0 is greedy; above it, tokens are drawn."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    beams: int = 1
    no_repeat_ngram: int = 0
    """No stretch of so many tokens is written that the row's prompt or output has already; 0: no rule."""
    seed: int = 0
    """Of drawing. Each row draws from (seed, row id) alone, whatever is computed with it."""
    stop_patterns: tuple[str, ...] = ()
    """Regular expressions: a row ends where one begins (`stops.patterns_of` reads them off a template)."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        wrong = {
            "max_new_tokens": (self.max_new_tokens < 1, "1 or more"),
            "max_new_ratio": (self.max_new_ratio is not None and not self.max_new_ratio > 0, "above 0"),
            "temperature": (not 0 <= self.temperature <= 100, "0 (greedy) to 100"),
            "top_p": (not 0 < self.top_p <= 1, "above 0, at most 1"),
            "top_k": (self.top_k < 0, "0 (all) or more"),
            "beams": (self.beams < 1, "1 or more"),
            "seed": (not 0 <= self.seed < 2**63, "0 to 2^63 - 1"),
            "no_repeat_ngram": (self.no_repeat_ngram < 0 or self.no_repeat_ngram == 1, "0 (off), or 2 or more"),
        }
        for name, (bad, expected) in wrong.items():
            if bad:
                raise ConfigError(
                    f"`{name}` is out of range", where=_option(name), found=str(getattr(self, name)), expected=expected
                )
        if not self.temperature and (self.top_p != 1.0 or self.top_k):
            raise ConfigError(
                "this has no effect on greedy decoding",
                where=_option("top_p" if self.top_p != 1.0 else "top_k"),
                fix="give a temperature above 0 with it, or leave it out",
            )
        if self.beams > 1 and self.temperature:
            raise ConfigError(
                "beams are searched, not drawn", where="--beams, --temperature", fix="give one of the two"
            )
        for pattern in self.stop_patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    "a stop pattern is no regular expression", where="stop_patterns", found=f"{pattern!r}: {error}"
                ) from error

    def limit(self, prompt: Prompt, context: int | None) -> int:
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
        return {**asdict(self), "stop_patterns": list(self.stop_patterns)}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
