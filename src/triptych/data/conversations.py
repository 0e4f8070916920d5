"""From a conversation to one (instruction, output): the last assistant turn is the output, what is before it asks.

How what is before it becomes one text:

- one user turn: its text, as it is
- several turns: each on a line of its own as `USER: text` or `ASSISTANT: text`, a tool's as `TOOL: text`
- a system turn's text goes first, as it is, with an empty line below it; a `system` column of the row the same

A call of a tool is the assistant's: a `function_call` turn is an assistant turn, and the calls in a turn's `tool_calls`
become lines of JSON below its text. Other keys of a turn, and turns after the output, are left out and counted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from triptych.data.notes import Notes
from triptych.data.row import describe

HOW_JOINED = "the last assistant turn is the output; earlier turns are joined as `USER: …` and `ASSISTANT: …` lines"
"""For messages."""

_ROLES = {
    **dict.fromkeys(("user", "human"), "USER"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "function_call"), "ASSISTANT"),
    **dict.fromkeys(("system", "developer"), "SYSTEM"),
    **dict.fromkeys(("tool", "function", "observation"), "TOOL"),
}
_CALLS = ("tool_calls", "function_call")
_USED = frozenset(("role", "from", "content", "value", *_CALLS))


class Unusable(ValueError):
    """A conversation that gives no row: what is wrong with it, and what was found."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(what)
        self.what, self.found = what, found


def from_turns(
    turns: object, notes: Notes, *, need_output: bool, to_answer: bool = False, system: str = ""
) -> tuple[str, str | None]:
    """The instruction and the output of a list of turns, each {role, content} or {from, value}.

    With `to_answer`, a conversation that ends with a user or tool turn asks for the next answer and has no output.
    `system` is the text of the row's system column. What is left out is counted in `notes`.

    Raises:
        Unusable: no list of turns, an unknown role, a turn that is not text, nothing to answer or no answer.
    """
    if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
        raise Unusable("a conversation is not a list of turns", describe(turns))
    parsed = [_turn(number, turn, notes) for number, turn in enumerate(turns, 1)]
    if system and not any(turn == ("SYSTEM", system) for turn in parsed):
        if any(role == "SYSTEM" and text for role, text in parsed):
            raise Unusable("a row has a system turn and another text in its system column", describe(system))
        parsed.insert(0, ("SYSTEM", system))
    last = max((at for at, (role, _) in enumerate(parsed) if role == "ASSISTANT"), default=-1)
    if not need_output and parsed and (last < 0 or (to_answer and last < len(parsed) - 1)):
        return _joined(parsed), None
    if last < 0:
        roles = ", ".join([role.lower() for role, _ in parsed[:8]] + ["…"] * (len(parsed) > 8))
        raise Unusable("a conversation has no assistant turn", f"{len(parsed)} turns: {roles or 'none'}")
    if after := [role for role, _ in parsed[last + 1 :]]:
        notes.after_answer[tuple(role.lower() for role in after)] += 1
    return _joined(parsed[:last]), parsed[last][1]


def may_be_turns(value: object) -> bool:
    """Whether a value is a list of turns, or a text that may be one as JSON."""
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def parse_json_list(text: str, column: str) -> object:
    """The list that a text holds as JSON.

    Raises:
        Unusable: it isn't JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(
            f"`{column}` is a text that is not JSON ({ascii(str(error))[1:-1][:80]})", describe(text)
        ) from error


def _joined(parsed: Sequence[tuple[str, str]]) -> str:
    system = [text for role, text in parsed if role == "SYSTEM" and text]
    rest = [(role, text) for role, text in parsed if role != "SYSTEM"]
    if not rest:
        raise Unusable("a conversation has nothing before the last assistant turn", f"{len(parsed)} turns before it")
    alone = len(rest) == 1 and rest[0][0] == "USER"
    asked = rest[0][1] if alone else "\n".join(f"{role}: {text}" for role, text in rest)
    return "\n\n".join([*system, asked])


def _turn(number: int, turn: object, notes: Notes) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise Unusable(f"turn {number} of a conversation is not an object", describe(turn))
    role = _one_of(turn, ("role", "from"), number)
    known = _ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise Unusable(f"turn {number} of a conversation has a role that is not known", describe(role))
    content = _one_of(turn, ("content", "value"), number)
    calls: list[str] = []
    if len(turn) > 2 or content is None:
        calls = [line for key in _CALLS if turn.get(key) for line in _calls(turn[key], key, number)]
        for key, value in turn.items():
            if key not in _USED and value not in (None, "", [], {}):
                notes.turn_keys[str(key)] += 1
    text = _parts(content) if isinstance(content, list) else content
    if text is None and content in (None, []) and (calls or known == "SYSTEM"):
        text = ""
    if not isinstance(text, str):
        raise Unusable(f"turn {number} of a conversation is not text", describe(content))
    if calls:
        notes.tool_calls += 1
        text = "\n".join([text, *calls] if text else calls)
    return known, text


def _one_of(turn: Mapping[str, Any], keys: tuple[str, str], number: int) -> Any:
    """The value under either key; a file with both kinds of turns in one table has null under the other."""
    first, second = (turn.get(key) for key in keys)
    if first is not None and second is not None and first != second:
        raise Unusable(
            f"turn {number} of a conversation has both `{keys[0]}` and `{keys[1]}`, and they differ",
            f"{describe(first)} and {describe(second)}",
        )
    return second if first is None else first


def _calls(value: object, key: str, number: int) -> list[str]:
    """Each call as one line of JSON, {"name": ..., "arguments": ...}."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    calls = value if isinstance(value, list) else [value]
    return [_call(call, key, number) for call in calls]


def _call(call: object, key: str, number: int) -> str:
    inner = call.get("function") if isinstance(call, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else call
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str):
        raise Unusable(f"turn {number} of a conversation has `{key}` that name no function", describe(call))
    arguments = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str):  # OpenAI writes the arguments as JSON text within the JSON
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    try:
        return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:  # bytes, dates: only Parquet has these
        raise Unusable(
            f"turn {number} of a conversation has `{key}` that can't be written as JSON", str(error)
        ) from error


def _parts(content: list[Any]) -> str | None:
    """Content given as parts, [{"type": "text", "text": ...}, ...]; None if one of them is not text."""
    given = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [text for text in given if isinstance(text, str)]
    return "".join(texts) if texts and len(texts) == len(given) else None
