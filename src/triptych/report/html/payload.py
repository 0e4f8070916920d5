"""What `report.html` carries for its plots and its explorer of rows, and in how many pieces.

core       cells, settings, the series of charts, prompts: read at once
rows       ids, lengths, slices and the scores of every row in every cell: read by the explorer
texts      instructions and outputs, of test rows and of demonstrations
chunk-N    tokens and demonstrations of `CHUNK` rows: read when one of them is opened
written-N  what the models wrote for them, where anything was
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from triptych.records import CellRecord, ItemScore, RunRecord
from triptych.records.texts import TokenTexts
from triptych.report.groups import Setting, repeat_of
from triptych.report.html.packing import LOG_STEP, NLL_STEP, pack_json, pack_logs, pack_nll
from triptych.report.numbers import number
from triptych.report.row_texts import RowTexts
from triptych.report.series import CHARTS, Chart
from triptych.report.study import Items, Study

CHUNK = 250
"""Rows whose tokens are unpacked together."""


def payload(
    study: Study,
    texts: RowTexts,
    *,
    slices: Mapping[str, Mapping[str, str]],
    written: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, str]:
    """Name -> packed text. `slices`: name -> row id -> value; `written`: cell -> row id -> the model's text."""
    record, items = study.record, study.items
    ids = _ids(record, items)
    test = texts.rows.get("test", {})
    with_texts = bool(ids) and all(row in test for row in ids)
    with_tokens = bool(ids) and all(row in texts.tokens.pieces for row in ids)
    said = _written_chunks(record, ids, written or {})
    core = {
        **_core(study),
        "has": {"texts": with_texts, "tokens": with_tokens, "written": bool(said)},
        "steps": {"log": LOG_STEP, "nll": NLL_STEP, "chunk": CHUNK},
    }
    parts = {"core": pack_json(core), "rows": pack_json(_rows(record, items, ids, slices))}
    cells = [cell.cell for cell in record.cells]
    parts["scores"] = pack_logs([_logs(items[cell], ids) for cell in cells] if ids else [])
    if with_texts:
        demos = texts.rows.get("demo", {})
        parts["texts"] = pack_json({"test": [test[row] for row in ids], "demo": list(demos.values())})
        parts |= _chunks(record, items, ids, texts.tokens if with_tokens else None, list(demos))
    return parts | said


def _written_chunks(record: RunRecord, ids: Sequence[str], written: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Per cell its place among the cells, and for each row [chrF++, text], or null where none was written."""
    places = {cell.cell: place for place, cell in enumerate(record.cells)}
    kept = [g for g in record.generations if g.cell in written and g.cell in places]
    if not kept:
        return {}
    return {
        f"written-{number}": pack_json(
            [
                [places[g.cell], [_said(g.row_chrf, written[g.cell], row) for row in ids[start : start + CHUNK]]]
                for g in kept
            ]
        )
        for number, start in enumerate(range(0, len(ids), CHUNK))
    }


def _said(chrf: Mapping[str, float], texts: Mapping[str, str], row: str) -> list[float | str] | None:
    return [round(chrf[row], 2), texts[row]] if row in texts and row in chrf else None


def _chunks(
    record: RunRecord, items: Items, ids: Sequence[str], tokens: TokenTexts | None, demos: Sequence[str]
) -> dict[str, str]:
    shown = _shown_demos(record, items, demos)
    cells = [cell.cell for cell in record.cells]
    parts = {}
    for place, start in enumerate(range(0, len(ids), CHUNK)):
        chosen = ids[start : start + CHUNK]
        found: dict[str, Any] = {"demos": [rows and [rows[row] for row in chosen] for rows in shown]}
        if tokens is not None:
            found |= _tokens_chunk(cells, chosen, tokens)
        parts[f"chunk-{place}"] = pack_json(found)
    return parts


def _ids(record: RunRecord, items: Items) -> list[str]:
    """Rows of the first cell, in the test file's order; rows that not every cell has can't be compared."""
    if not record.cells:
        return []
    shared = set.intersection(*({item.id for item in items[cell.cell]} for cell in record.cells))
    return [item.id for item in items[record.cells[0].cell] if item.id in shared]


def _core(study: Study) -> dict[str, Any]:
    places = {setting.label: place for place, setting in enumerate(study.settings)}
    cell_places = {cell.cell: place for place, cell in enumerate(study.cells)}
    charts = {name: chart for name, make in CHARTS.items() if (chart := make(study))}
    return {
        "name": study.record.name,
        "cells": [_cell(cell) for cell in study.cells],
        "settings": [_setting(s, study, cell_places) for s in study.settings],
        "best": {strategy: places[setting.label] for strategy, setting in study.best.items()},
        "charts": {name: _chart(chart) for name, chart in charts.items()},
        "prompts": study.record.prompts,
    }


def _chart(chart: Chart) -> dict[str, Any]:
    axes = {"x": chart.x, "y": chart.y, "log": chart.log, "ticks": chart.ticks}
    return {**axes, "series": [asdict(series) for series in chart.series]}


def _cell(cell: CellRecord) -> dict[str, Any]:
    return {"cell": cell.cell, "prompt": cell.prompt, "k": cell.k, "repeat": ", ".join(repeat_of(cell))}


def _setting(setting: Setting, study: Study, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": study.name(setting.label),
        "strategy": setting.strategy,
        "cells": [places[cell.cell] for cell in setting.cells],
        "ppl": setting.mean(),
        "shown": number(setting.mean()),
        "repeats": f"{setting.over().n} {setting.repeated}" if setting.repeated else "",
        "interval": study.intervals.get(setting.label),
    }


def _rows(
    record: RunRecord, items: Items, ids: Sequence[str], slices: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    known = {item.id: item for item in items[record.cells[0].cell]} if record.cells else {}
    return {
        "ids": list(ids),
        "n_tokens": [known[row].n_tokens for row in ids],
        "slices": {name: _coded(values, ids) for name, values in slices.items()},
    }


def _coded(values: Mapping[str, str], ids: Sequence[str]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(values.values()))
    places = {value: place for place, value in enumerate(kinds)}
    return {"values": kinds, "codes": [places[values[row]] if row in values else -1 for row in ids]}


def _logs(rows: Sequence[ItemScore], ids: Sequence[str]) -> list[float]:
    by_id = {item.id: item.nll_nats / item.n_tokens for item in rows}
    return [by_id[row] for row in ids]


def _shown_demos(record: RunRecord, items: Items, demos: Sequence[str]) -> list[dict[str, list[int]] | None]:
    """For each cell, row id -> places in `demos` of what was shown (-1: not kept); None where nothing was."""
    index = {demo: place for place, demo in enumerate(demos)}
    return [
        {item.id: [index.get(demo, -1) for demo in item.demo_ids] for item in items[cell.cell]} if cell.k else None
        for cell in record.cells
    ]


def _tokens_chunk(cells: Sequence[str], ids: Sequence[str], tokens: TokenTexts) -> dict[str, Any]:
    by_cell = [tokens.nll.get(cell, {}) for cell in cells]
    return {
        "pieces": [[text for text, _ in tokens.pieces[row]] for row in ids],
        "sizes": [[size for _, size in tokens.pieces[row]] for row in ids],
        "nll": [pack_nll([rows.get(row, ()) for row in ids]) if rows else None for rows in by_cell],
    }
