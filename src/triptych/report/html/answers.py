"""What `report.html` carries of the answers of rows: their metrics, the options chosen, and the likeliest options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from triptych.metrics.classes import probabilities
from triptych.records import ItemScore
from triptych.report.html.packing import in_chunks, pack_json
from triptych.report.study import Study

LIKELIEST = 5
"""Options of a row whose probabilities are shown; the reference's is always among them."""


def values(rows: Sequence[ItemScore], ids: Sequence[str], metric: str) -> list[float]:
    """A metric of a cell's rows, in the order of `ids`; NaN where a row has none."""
    by_id = {item.id: item.metrics.get(metric, math.nan) for item in rows}
    return [by_id[row] for row in ids]


def answers(study: Study, ids: Sequence[str]) -> dict[str, str]:
    """What was chosen, and how likely the likeliest options were; nothing where no options were scored."""
    cells = [{item.id: item for item in study.items[cell.cell]} for cell in study.cells]
    if not any(item.chosen is not None for rows in cells for item in rows.values()):
        return {}
    options = list(study.record.choices)
    places = {option: place for place, option in enumerate(options)}
    for rows in cells:
        for item in rows.values():
            if item.chosen is not None:
                places.setdefault(item.chosen, len(places))
    chosen = [[_place(places, rows[row].chosen) for row in ids] for rows in cells]
    correct = [_reference([rows[row] for rows in cells]) if options else -1 for row in ids]
    parts = {
        "answers": pack_json({"options": list(places), "chosen": chosen, "correct": correct, "known": bool(options)})
    }
    if not options:
        return parts
    likely = [{row: _likeliest(rows[row]) for row in ids} for rows in cells]
    return parts | in_chunks("options", ids, lambda rows: [[of_cell[row] for row in rows] for of_cell in likely])


def _place(places: Mapping[str, int], chosen: str | None) -> int:
    return -1 if chosen is None else places[chosen]


def _reference(scored: Sequence[ItemScore]) -> int:
    return next((item.correct for item in scored if item.correct is not None), -1)


def _likeliest(item: ItemScore) -> list[list[float]]:
    """[option, probability] of a few options, the likeliest first."""
    if not item.option_nll:
        return []
    shares = probabilities(item.option_nll)
    ordered = sorted(range(len(shares)), key=lambda place: -shares[place])
    kept = ordered[:LIKELIEST]
    kept += [item.correct] if item.correct is not None and item.correct not in kept else []
    return [[place, float(f"{shares[place]:.3g}")] for place in kept]
