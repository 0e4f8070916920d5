"""Which cells of a run with budgets of labelled rows are compared with one another: those of the most rows."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.records import CellRecord, RunRecord


def most_rows(cells: Sequence[CellRecord]) -> tuple[CellRecord, ...]:
    """The cells of the largest budget, and those that need no rows."""
    largest = max((cell.budget for cell in cells if cell.budget is not None), default=None)
    return tuple(cell for cell in cells if cell.budget in (None, largest))


def of_most_rows(record: RunRecord) -> RunRecord:
    """The record without cells, curves and texts of smaller budgets; the same where there are none."""
    cells = most_rows(record.cells)
    if len(cells) == len(record.cells):
        return record
    names, trained = {cell.cell for cell in cells}, {cell.training for cell in cells}
    return record.model_copy(
        update={
            "cells": cells,
            "further_curves": {name: curve for name, curve in record.further_curves.items() if name in trained},
            "generations": tuple(one for one in record.generations if one.cell in names),
        }
    )
