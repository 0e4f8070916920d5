"""The axis of labelled rows: `budgets`, each with subsets of the training rows drawn by `budget_seeds`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from triptych.config.choices import MANY
from triptych.config.strategies import OneOrMore

ALL: Literal["all"] = "all"


def _check(value: Any) -> Any:
    if value == ALL:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MANY:
        raise ValueError(f"a number of training rows from 1 to {MANY:,}, or `all`")
    return value


Budgets = OneOrMore[Annotated[int | Literal["all"], BeforeValidator(_check)]]
"""Numbers of labelled rows; `all` for the whole of train."""
