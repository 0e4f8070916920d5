"""`triptych preview`: a few rows of every kind of cell as the model will see them, and the checks.

Text is laid out in lines of whole characters with the ids they came from beside them, and no line holds both what is
scored and what is not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
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
from triptych.grid.suited import with_prompts
from triptych.models import TokenizerProfile
from triptych.prompts import Rendered

_CHECK_KEYS = ("name", "passed", "stops", "detail", "rows", "fix")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_VISIBLE = {"\n": "↵", "\t": "→", "\r": "␍"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens of a row: those of a few whole characters, or of a line."""

    text: str
    """In a line it is printable: newlines, tabs and control characters are drawn."""
    ids: tuple[int, ...]
    scored: bool


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row as the model will see it."""

    cell: str
    """Its name, or `training NAME`."""
    rendered: Rendered
    pieces: tuple[Piece, ...]
    """All tokens, in order."""

    @classmethod
    def of(cls, cell: str, rendered: Rendered, profile: TokenizerProfile) -> ShownRow:
        """A rendering in the shortest pieces, none of which has scored tokens and others."""
        pieces: list[Piece] = []
        at, n_prompt = 0, rendered.n_prompt
        for part in (rendered.ids[:n_prompt], rendered.ids[n_prompt:]):
            for text, n in profile.pieces(part):
                pieces.append(Piece(text, rendered.ids[at : at + n], at >= n_prompt))
                at += n
        return cls(cell, rendered, tuple(pieces))


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
    config = with_prompts(config)
    experiment = render_experiment(ExperimentRows.read(config))
    parts = [_named(cell, experiment)] if cell is not None else _kinds(experiment)
    profile = experiment.profile
    shown = (ShownRow.of(part.name, one, profile) for part in parts for one in spread(part.rendered, rows))
    checks = run_checks(experiment, adapters=adapter_facts(config, adapter_of, adapter))
    return Preview(tuple(shown), checks, experiment.left_out, experiment.limit.tokens, profile.record())


def lines_of(row: ShownRow, width: int) -> list[Piece]:
    """Break a row into lines of at most about `width` columns; newlines end a line."""
    lines: list[Piece] = []
    columns = 0
    for piece in row.pieces:
        text, last = visible(piece.text), lines[-1] if lines else None
        columns += _columns(text)
        if last is None or columns > width or piece.scored != last.scored or last.text.endswith("↵"):
            lines.append(replace(piece, text=text))
            columns = _columns(text)
        else:
            lines[-1] = replace(last, text=last.text + text, ids=last.ids + piece.ids)
    return lines


def visible(text: str) -> str:
    """Printable text: newlines as ↵, tabs as →, and nothing that a terminal would obey."""
    drawn = {c: f"\\u{{{ord(c):x}}}" for c in text if unicodedata.category(c) in _UNPRINTABLE} | _VISIBLE
    return "".join(drawn.get(c, c) for c in text)


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


def _row_json(row: ShownRow) -> dict[str, Any]:
    rendered = row.rendered
    return {
        "cell": row.cell,
        "row": rendered.row_id,
        "n_tokens": len(rendered.ids),
        "n_scored": rendered.n_scored,
        "demo_ids": list(rendered.demo_ids),
        "demos_dropped": rendered.n_demos_dropped,
        "pieces": [{"text": piece.text, "ids": list(piece.ids), "scored": piece.scored} for piece in row.pieces],
    }
