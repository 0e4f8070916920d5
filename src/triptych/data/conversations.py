"""From a conversation to one (instruction, output): the last assistant turn is the output, what is before it asks.

How what is before it becomes one text:

- one user turn: its text, as it is
- several turns: each on a line of its own as `USER: text` or `ASSISTANT: text`, a tool's as `TOOL: text`
- a system turn's text goes first, as it is, with an empty line below it

Turns after the last assistant turn ask for nothing that is in the file; they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.data.raw import describe

__all__ = ["HOW_JOINED", "Unusable", "from_turns"]

HOW_JOINED = "the last assistant turn is the output; earlier turns are joined as `USER: …` and `ASSISTANT: …` lines"
"""For messages."""

_ROLES = {
    **dict.fromkeys(("user", "human"), "USER"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "ASSISTANT"),
    **dict.fromkeys(("system", "developer"), "SYSTEM"),
    **dict.fromkeys(("tool", "function", "function_call", "observation"), "TOOL"),
}


class Unusable(ValueError):
    """A conversation that gives no row: what is wrong with it, and what was found."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(what)
        self.what, self.found = what, found


def from_turns(turns: object, *, need_output: bool) -> tuple[str, str | None]:
    """The instruction and the output of a list of turns, each {role, content} or {from, value}.

    With `need_output=False` a conversation that ends with a user turn has no output.

    Raises:
        Unusable: no list of turns, an unknown role, a turn that is not text, nothing to answer or no answer.
    """
    if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
        raise Unusable("a conversation is not a list of turns", describe(turns))
    said = [_turn(number, turn) for number, turn in enumerate(turns, 1)]
    last = max((at for at, (role, _) in enumerate(said) if role == "ASSISTANT"), default=-1)
    if not need_output and said and said[-1][0] != "ASSISTANT":
        return _joined(said), None
    if last < 0:
        raise Unusable("a conversation has no assistant turn", f"{len(said)} turns: {_roles(said)}")
    return _joined(said[:last]), said[last][1]


def _joined(said: Sequence[tuple[str, str]]) -> str:
    system = [text for role, text in said if role == "SYSTEM" and text]
    rest = [(role, text) for role, text in said if role != "SYSTEM"]
    if not rest:
        raise Unusable("a conversation has nothing before the last assistant turn", f"{len(said)} turns before it")
    alone = len(rest) == 1 and rest[0][0] == "USER"
    asked = rest[0][1] if alone else "\n".join(f"{role}: {text}" for role, text in rest)
    return "\n\n".join([*system, asked])


def _turn(number: int, turn: object) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise Unusable(f"turn {number} of a conversation is not an object", describe(turn))
    role = turn.get("role", turn.get("from"))
    known = _ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise Unusable(f"turn {number} of a conversation has a role that is not known", describe(role))
    content = turn.get("content", turn.get("value"))
    text = _parts(content) if isinstance(content, list) else content
    if not isinstance(text, str):
        raise Unusable(f"turn {number} of a conversation is not text", describe(content))
    return known, text


def _parts(content: list[Any]) -> str | None:
    """Content given as parts, [{"type": "text", "text": ...}, ...]; None if one of them is not text."""
    given = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [text for text in given if isinstance(text, str)]
    return "".join(texts) if texts and len(texts) == len(given) else None


def _roles(said: Sequence[tuple[str, str]]) -> str:
    roles = ", ".join(role.lower() for role, _ in said[:8])
    return (roles or "none") + (", …" if len(said) > 8 else "")
