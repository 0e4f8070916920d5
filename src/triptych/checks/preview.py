"""`triptych preview`: a few rows of every kind of cell as the model will see them, and the checks.

Text is laid out in lines of whole characters with the ids they came from beside them, and no line holds both what is
scored and what is not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.checks.adapters import adapter_facts
from triptych.checks.findings import Check
from triptych.checks.rows import run_checks
from triptych.config.experiment import ExperimentConfig
from triptych.errors import ConfigError
from triptych.grid.cells import TrainingSpec, unknown_cell
from triptych.grid.rendered import RenderedExperiment, RenderedRows, render_experiment, spread
from triptych.grid.rows import ExperimentRows
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered

_CHECK_KEYS = ("name", "passed", "stops", "detail", "rows", "fix")
_VISIBLE = {"\n": "↵", "\t": "→", "\r": "␍"}


@dataclass(frozen=True, slots=True)
class Line:
    """Some tokens of a row, as one line."""

    text: str
    """Printable: newlines, tabs and control characters are drawn."""
    ids: tuple[int, ...]
    scored: bool


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row as the model will see it."""

    cell: str
    """Its name, or `training NAME`."""
    rendered: Rendered
    pieces: tuple[tuple[str, int], ...]
    """(text, number of tokens) of all tokens, in order; no piece crosses into the scored ones."""


@dataclass(frozen=True)
class Preview:
    """What is shown."""

    rows: tuple[ShownRow, ...]
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]
    max_tokens: int
    tokenizer: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "passed": not any(check.stops for check in self.checks),
            "max_tokens": self.max_tokens,
            "tokenizer": self.tokenizer,
            "not_shown": list(self.left_out),
            "rows": [_row_json(row) for row in self.rows],
            "checks": [
                {**{name: getattr(check, name) for name in _CHECK_KEYS}, "rows": list(check.rows)}
                for check in self.checks
            ],
        }


def preview(
    config: ExperimentConfig,
    *,
    rows: int = 1,
    cell: str | None = None,
    adapter_of: Callable[[TrainingSpec], Path] | None = None,
    adapter: Path | None = None,
) -> Preview:
    """Render the experiment and check it. Reads no weights.

    Args:
        config: the experiment.
        rows: how many rows of each kind of cell are shown.
        cell: show this cell (or `training NAME`) alone.
        adapter_of: the folder of a training's adapter, whose prompt is compared.
        adapter: another adapter, compared with the first training's prompt.

    Raises:
        InputError: settings, data or tokenizer can't be used.
    """
    experiment = render_experiment(ExperimentRows.read(config))
    parts = [_named(cell, experiment)] if cell is not None else _kinds(experiment)
    shown = tuple(row for part in parts for row in _shown(part, rows, experiment.profile))
    checks = run_checks(experiment, adapters=adapter_facts(config, adapter_of, adapter))
    return Preview(shown, checks, experiment.left_out, experiment.limit.tokens, experiment.profile.record())


def lines_of(row: ShownRow, width: int) -> list[Line]:
    """Break a row into lines of at most about `width` columns; newlines end a line."""
    lines: list[Line] = []
    ids: list[int] = []
    text, columns, at = "", 0, 0
    for piece, n in row.pieces:
        drawn, scored = visible(piece), at >= row.rendered.n_prompt
        size = _columns(drawn)
        if ids and (columns + size > width or scored != (at - 1 >= row.rendered.n_prompt) or text.endswith("↵")):
            lines.append(Line(text, tuple(ids), at - 1 >= row.rendered.n_prompt))
            text, ids, columns = "", [], 0
        text, columns = text + drawn, columns + size
        ids += row.rendered.ids[at : at + n]
        at += n
    return [*lines, Line(text, tuple(ids), at - 1 >= row.rendered.n_prompt)] if ids else lines


def visible(text: str) -> str:
    """Printable text: newlines as ↵, tabs as →, and nothing that a terminal would obey."""
    return "".join(_VISIBLE.get(c, c if _printable(c) else f"\\u{{{ord(c):x}}}") for c in text)


def _printable(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _named(name: str, experiment: RenderedExperiment) -> RenderedRows:
    parts = {part.name: part for part in experiment.parts}
    if name in parts:
        return parts[name]
    if name in experiment.left_out:
        raise ConfigError(
            "this cell's demonstrations are chosen by the model, so it can't be shown without the weights",
            where="--cell",
            found=name,
            fix="show another cell",
        )
    raise unknown_cell(name, parts, where="--cell", what="there is no such cell")


def _kinds(experiment: RenderedExperiment) -> list[RenderedRows]:
    """The first cell of each kind: cells that differ in a seed alone look alike."""
    kinds: dict[Any, RenderedRows] = {}
    for part in experiment.parts:
        trained = part.cell.training if part.cell else part.training
        adapter = trained and replace(trained, seed=0, first=True)
        kinds.setdefault((part.cell and replace(part.cell, seed=None, training=None), adapter), part)
    return list(kinds.values())


def _shown(part: RenderedRows, n: int, profile: TokenizerProfile) -> Iterable[ShownRow]:
    for rendered in spread(part.rendered, n):
        parts = (rendered.ids[: rendered.n_prompt], rendered.ids[rendered.n_prompt :])
        pieces = tuple(piece for part in parts for piece in profile.pieces(part))
        yield ShownRow(part.name, rendered, pieces)


def _row_json(row: ShownRow) -> dict[str, Any]:
    rendered: Rendered = row.rendered
    at, pieces = 0, []
    for text, n in row.pieces:
        pieces.append({"text": text, "ids": list(rendered.ids[at : at + n]), "scored": at >= rendered.n_prompt})
        at += n
    return {
        "cell": row.cell,
        "row": rendered.row_id,
        "n_tokens": len(rendered.ids),
        "n_scored": rendered.n_scored,
        "demo_ids": list(rendered.demo_ids),
        "demos_dropped": rendered.n_demos_dropped,
        "pieces": pieces,
    }
