"""Notes of a reader on a file: which parts it left out or read in a particular way, counted, one note each.

Every part of a row is used, refused by name, or counted here. One sentence per kind, however often it occurred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_NAMED = 8


class Notes:
    """Counts of one file."""

    def __init__(self, said: Sequence[str] = ()) -> None:
        self._said = list(said)
        self._after: Counter[tuple[str, ...]] = Counter()
        self._turn_keys: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._beside: Counter[str] = Counter()
        self._as_json: Counter[str] = Counter()
        self._system: Counter[str] = Counter()
        self._calls = 0
        self._numbers: list[str] = []
        self._n_numbers = 0

    def turns_after_answer(self, roles: Sequence[str]) -> None:
        """A conversation has turns of these roles after the one that is the output."""
        self._after[tuple(role.lower() for role in roles)] += 1

    def turn_key(self, name: str) -> None:
        """A turn has a key whose value is left out."""
        self._turn_keys[name] += 1

    def tool_call(self) -> None:
        """A turn's tool calls became text."""
        self._calls += 1

    def left_out(self, column: str) -> None:
        """A row's column holds a list, an object or bytes that nothing uses."""
        self._left_out[column] += 1

    def not_in_prompt(self, column: str) -> None:
        """A row's column may have been meant for the prompt, and is kept for slices alone."""
        self._beside[column] += 1

    def system(self, column: str) -> None:
        """A row's system column is used."""
        self._system[column] += 1

    def json_text(self, column: str) -> None:
        """A row's column held JSON text where a list was looked for."""
        self._as_json[column] += 1

    def number_as_text(self, text: str) -> None:
        """An output was a number, true or false."""
        self._n_numbers += 1
        if len(self._numbers) < 1:
            self._numbers.append(text)

    def said(self) -> tuple[str, ...]:
        """The sentences."""
        return (*self._said, *self._columns(), *self._turns())

    def _columns(self) -> list[str]:
        notes = [
            f"column `{_name(name)}` is used as a system turn ({_count(n, 'row')}), before the instruction"
            for name, n in self._system.items()
        ]
        notes += [
            f"column `{_name(name)}` holds JSON text, read as the list it says" for name, _ in self._as_json.items()
        ]
        if self._n_numbers:
            are = "output is a number, true or false" if self._n_numbers == 1 else "outputs are numbers, true or false"
            notes.append(f"{self._n_numbers} {are}: the JSON text is used, e.g. `{self._numbers[0]}`")
        if self._left_out:
            notes.append(f"left out, since they hold lists, objects or bytes: columns {_listed(self._left_out)}")
        if self._beside:
            notes.append(f"not part of the prompt (kept to cut reports by): columns {_listed(self._beside)}")
        return notes

    def _turns(self) -> list[str]:
        notes = []
        for roles, n in self._after.most_common(_NAMED):
            end = f"{_count(n, 'conversation')} {'ends' if n == 1 else 'end'} with"
            if len(roles) == 1:
                notes.append(f"{end} a {roles[0]} turn: that turn is left out")
            else:
                shown = ", ".join(roles[:4]) + (", …" if len(roles) > 4 else "")
                notes.append(f"{end} turns after the last answer ({shown}): these are left out")
        if len(self._after) > _NAMED:
            n = self._after.total() - sum(n for _, n in self._after.most_common(_NAMED))
            notes.append(f"{_count(n, 'conversation')} more with other turns after the last answer: left out too")
        if self._calls:
            notes.append(
                f"{_count(self._calls, 'turn')} with tool calls: each call is a line of JSON in the turn's text"
            )
        if self._turn_keys:
            notes.append(f"left out of the turns: the keys {_listed(self._turn_keys, 'turn')}")
        return notes


def _listed(counts: Counter[str], what: str = "row") -> str:
    named = [f"`{_name(name)}` ({_count(n, what)})" for name, n in counts.most_common(_NAMED)]
    return ", ".join(named) + (f" and {len(counts) - _NAMED} more" if len(counts) > _NAMED else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _name(name: str) -> str:
    """Any value as printable text, and short."""
    return ascii(name)[1:-1][:40] if not name.isprintable() else name[:40]
