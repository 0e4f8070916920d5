"""Notes of a reader on a file: which parts it left out or read in a particular way, counted, one note each.

Every part of a row is used, refused by name, or counted here. One sentence per kind, however often it occurred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_NAMED = 8


class Notes:
    """Counts of one file: what a row, a turn or a conversation has -> how often."""

    def __init__(self, said: Sequence[str] = ()) -> None:
        self._said = list(said)
        self.after_answer: Counter[tuple[str, ...]] = Counter()
        """Roles of the turns after the one that is the output."""
        self.turn_keys: Counter[str] = Counter()
        """Keys of a turn whose value is left out."""
        self.tool_calls = 0
        """Turns whose tool calls became text."""
        self.left_out: Counter[str] = Counter()
        """Columns with a list, an object or bytes that nothing uses."""
        self.not_in_prompt: Counter[str] = Counter()
        """Columns that may have been meant for the prompt, and are kept for slices alone."""
        self.system: Counter[str] = Counter()
        """Columns used as a system turn."""
        self.json_text: Counter[str] = Counter()
        """Columns with JSON text where a list was looked for."""
        self.numbers: list[str] = []
        """Outputs that were a number, true or false."""

    def said(self) -> tuple[str, ...]:
        """The sentences."""
        return (*self._said, *self._columns(), *self._turns())

    def _columns(self) -> list[str]:
        notes = [
            f"column `{_name(name)}` is used as a system turn ({_count(n, 'row')}), before the instruction"
            for name, n in self.system.items()
        ]
        notes += [f"column `{_name(name)}` holds JSON text, read as the list it says" for name in self.json_text]
        if self.numbers:
            are = (
                "output is a number, true or false" if len(self.numbers) == 1 else "outputs are numbers, true or false"
            )
            notes.append(f"{len(self.numbers)} {are}: the JSON text is used, e.g. `{self.numbers[0][:40]}`")
        if self.left_out:
            notes.append(f"left out, since they hold lists, objects or bytes: columns {_listed(self.left_out)}")
        if self.not_in_prompt:
            notes.append(f"not part of the prompt (kept to cut reports by): columns {_listed(self.not_in_prompt)}")
        return notes

    def _turns(self) -> list[str]:
        notes = []
        for roles, n in self.after_answer.most_common(_NAMED):
            end = f"{_count(n, 'conversation')} {'ends' if n == 1 else 'end'} with"
            if len(roles) == 1:
                notes.append(f"{end} a {roles[0]} turn: that turn is left out")
            else:
                shown = ", ".join(roles[:4]) + (", …" if len(roles) > 4 else "")
                notes.append(f"{end} turns after the last answer ({shown}): these are left out")
        if len(self.after_answer) > _NAMED:
            n = self.after_answer.total() - sum(n for _, n in self.after_answer.most_common(_NAMED))
            notes.append(f"{_count(n, 'conversation')} more with other turns after the last answer: left out too")
        if self.tool_calls:
            notes.append(
                f"{_count(self.tool_calls, 'turn')} with tool calls: each call is a line of JSON in the turn's text"
            )
        if self.turn_keys:
            notes.append(f"left out of the turns: the keys {_listed(self.turn_keys, 'turn')}")
        return notes


def _listed(counts: Counter[str], what: str = "row") -> str:
    named = [f"`{_name(name)}` ({_count(n, what)})" for name, n in counts.most_common(_NAMED)]
    return ", ".join(named) + (f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _name(name: str) -> str:
    """Any value as printable text, and short."""
    return ascii(name)[1:-1][:40] if not name.isprintable() else name[:40]
