"""Which rendered rows can be trained on. None is left out without a word, and no answer is ever cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.choices import LongRows
from triptych.config.tune import TuneConfig
from triptych.errors import DataError
from triptych.prompts import Rendered, RenderedOptions
from triptych.records.manifest import remove
from triptych.records.store import write_json

_LISTED = 20


@dataclass(frozen=True)
class DroppedRows:
    """Training rows left out because they are longer than the limit."""

    ids: tuple[str, ...] = ()
    n_tokens: tuple[int, ...] = ()
    """Of each, as it would have been rendered."""
    limit: int | None = None

    def __len__(self) -> int:
        """How many."""
        return len(self.ids)

    @property
    def first_ids(self) -> tuple[str, ...]:
        """The first twenty, for the summary; `dropped.json` has all."""
        return self.ids[:_LISTED]


@dataclass(frozen=True)
class TuneRows:
    """Rendered rows of a training."""

    train: Sequence[Rendered]
    test: Sequence[Rendered] = ()
    dev: Sequence[Rendered] = ()
    dropped: DroppedRows = DroppedRows()
    test_options: Sequence[RenderedOptions] | None = None
    """The test rows with their options, where the curve measures accuracy."""
    dev_options: Sequence[RenderedOptions] | None = None


def select_rows(rendered: Sequence[Rendered], limit: int, policy: LongRows) -> tuple[list[Rendered], DroppedRows]:
    """Separate the training rows that fit, in their order, from those that are too long.

    Args:
        rendered: training rows as they would be without any limit.
        limit: most tokens of a row, BOS and EOS included.
        policy: `drop` leaves longer rows out, `error` refuses them.

    Raises:
        DataError: a row has no scored token; a row is too long and the policy is `error`.
    """
    check_scored(rendered)
    long = [row for row in rendered if len(row.ids) > limit]
    if long and policy == "error":
        raise DataError(
            f"{len(long)} of {len(rendered)} training rows are longer than the limit",
            where=_named(long),
            found=f"up to {max(len(row.ids) for row in long)} tokens",
            expected=f"at most {limit}",
            fix="raise tune.max_tokens (and max_tokens) as far as the model allows, shorten the rows, "
            "or leave them out with `long_rows: drop`",
        )
    dropped = DroppedRows(tuple(row.row_id for row in long), tuple(len(row.ids) for row in long), limit)
    return [row for row in rendered if len(row.ids) <= limit], dropped


def check_trainable(rows: TuneRows, config: TuneConfig) -> None:
    """Check that there are rows to train on, each with a scored token, and rows to select the best checkpoint by.

    Raises:
        DataError: some are missing.
    """
    if not rows.train:
        raise DataError("there are no rows to train on", found=f"{len(rows.dropped)} rows, all longer than max_tokens")
    check_scored(rows.train)
    if config.select != "last" and not getattr(rows, config.select):
        raise DataError(
            f"the best checkpoint is to be chosen on {config.select} rows, and there are none",
            where="tune.select",
            fix="set data.dev_rows, or use `select: last`",
        )


def check_scored(rows: Sequence[Rendered]) -> None:
    """Raise DataError for rows without a scored token, by name."""
    if empty := [row for row in rows if row.n_scored < 1]:
        raise DataError(
            f"{len(empty)} of {len(rows)} training rows have no scored token: there is nothing to learn from them",
            where=_named(empty),
            expected="at least EOS after the prompt",
            fix="render rows with triptych.prompts.render, which always ends with EOS, or leave these out",
        )


def write_dropped(path: Path, dropped: DroppedRows) -> None:
    """Write `dropped.json`: every row left out with its length; no rows, no file."""
    if not dropped.ids:
        remove(path)
        return
    pairs = zip(dropped.ids, dropped.n_tokens, strict=True)
    rows: list[dict[str, Any]] = [{"id": name, "n_tokens": n} for name, n in pairs]
    write_json(path, {"limit": dropped.limit, "n_rows": len(dropped), "rows": rows})


def _named(rows: Sequence[Rendered]) -> str:
    return "rows " + ", ".join(repr(row.row_id) for row in rows[:8]) + (" …" if len(rows) > 8 else "")
