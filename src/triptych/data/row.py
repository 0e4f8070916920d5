"""A row: the unit of data. Everything Triptych trains on or scores is a list of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One (id, instruction, output).

    `output` is None only in files to predict (the study's private test); such a row can't be scored or trained on.
    """

    id: str
    instruction: str
    output: str | None
    columns: tuple[tuple[str, str], ...] = ()
    """Further columns of the file, (name, value) in the file's order: what reports are cut by and rows are chosen by.
    They never reach a prompt."""

    def column(self, name: str) -> str | None:
        """The value of a further column; None if this row has no such column."""
        return dict(self.columns).get(name)

    def target(self) -> str:
        """The output, for code that has checked the rows are complete."""
        if self.output is None:
            raise ValueError(f"row {self.id!r} has no output")
        return self.output
