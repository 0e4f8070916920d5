"""The result of a check, and the words of its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from triptych.data import Row
from triptych.grid.rendered import RenderedExperiment
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered

_NAMED = 5

REPORT = "this is a mistake of Triptych or of the tokenizer, not of yours: please report it with this message"
"""The fix where neither settings nor data can be at fault."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    passed: bool
    detail: str
    rows: tuple[str, ...] = ()
    """Ids of the rows it is about, all of them."""
    fix: str | None = None
    warning: bool = False
    """A finding that stops nothing."""
    about: Literal["config", "data"] = "config"
    """Where the mistake is, if it is one."""

    @property
    def stops(self) -> bool:
        """Whether a run must not begin."""
        return not self.passed and not self.warning


class Outputs:
    """Tokens of outputs, each encoded once."""

    def __init__(self, profile: TokenizerProfile) -> None:
        self._profile = profile
        self.ids: Callable[[str], tuple[int, ...]] = cache(lambda text: tuple(profile.encode(text)))
        """Token ids of an output."""

    def decoded(self, text: str) -> str:
        """The text that an output's tokens stand for."""
        return str(self._profile.tokenizer.decode(list(self.ids(text)), clean_up_tokenization_spaces=False))

    def scored_alone(self, row: Row, rendered: Rendered) -> bool:
        """Whether the scored tokens are the output's and one more."""
        return rendered.ids[rendered.n_prompt : -1] == self.ids(row.target())

    def answered(self, row: Row, rendered: Rendered) -> bool:
        """Whether the scored tokens of an assistant's turn begin with the output, which its template may trim."""
        target = row.target()
        if self.decoded(target) != target:  # then the text shows nothing
            return True
        tokens = list(rendered.ids[rendered.n_prompt :])
        text = str(self._profile.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
        return text.strip().startswith(target.strip())


def rendered_rows(experiment: RenderedExperiment) -> Iterator[Rendered]:
    """Every rendering there is."""
    for part in experiment.parts:
        yield from part.rendered


def text_of(profile: TokenizerProfile, token: int) -> str:
    """A special token as it is written."""
    return str(profile.tokenizer.convert_ids_to_tokens(token))


def some(ids: Sequence[str]) -> str:
    """`3 rows: a, b, c`, at most five of them named."""
    distinct = list(dict.fromkeys(ids))
    more = f" and {len(distinct) - _NAMED:,} more" if len(distinct) > _NAMED else ""
    return f"{count(len(distinct), 'row')} {', '.join(distinct[:_NAMED])}{more}"


def quoted(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(f"`{name}`" for name in names)


def count(n: int, what: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def short(text: str) -> str:
    """A text in a sentence, with what is not printable escaped."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "…"
