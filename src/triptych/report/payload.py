"""What `report.html` carries for its plots and its explorer of rows, and in how many pieces.

core       cells, settings, curve, comparisons, prompts: read at once
rows       ids, lengths, slices and the scores of every row in every cell: read by the explorer
texts      instructions and outputs, of test rows and of demonstrations
chunk-N    tokens and demonstrations of `CHUNK` rows: read when one of them is opened
written-N  what the models wrote for them, where anything was
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.records import CellRecord, CurvePoint, ItemScore, RunRecord
from triptych.records.texts import TokenTexts
from triptych.report.contenders import Setting, best_of_each, names, settings
from triptych.report.numbers import Interval, number
from triptych.report.packing import LOG_STEP, NLL_STEP, pack_json, pack_logs, pack_nll
from triptych.report.statistics import told_apart
from triptych.report.texts import RowTexts

__all__ = ["CHUNK", "payload"]

CHUNK = 250
"""Rows whose tokens are unpacked together."""

Items = Mapping[str, Sequence[ItemScore]]


def payload(
    record: RunRecord,
    items: Items,
    texts: RowTexts,
    *,
    intervals: Mapping[str, Interval],
    slices: Mapping[str, Mapping[str, str]],
    written: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, str]:
    """Name -> packed text.

    `intervals` by setting label; `slices`: name -> row id -> value; `written`: cell -> row id -> the model's text.
    """
    ids = _ids(record, items)
    test = texts.rows.get("test", {})
    with_texts = bool(ids) and all(row in test for row in ids)
    with_tokens = bool(ids) and all(row in texts.tokens.pieces for row in ids)
    said = _written_chunks(record, ids, written or {})
    core = {
        **_core(record, intervals),
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


def _curve(points: Sequence[CurvePoint]) -> list[dict[str, Any]]:
    return [
        {
            **{"step": p.step, "split": p.split, "ppl": p.aggregate.ppl_mean, "loss": p.train_loss},
            **{"epoch": p.epoch, "low": p.ci_low, "high": p.ci_high},
        }
        for p in points
    ]


def _core(record: RunRecord, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    every = settings(record.cells)
    places = {setting.label: place for place, setting in enumerate(every)}
    cell_places = {cell.cell: place for place, cell in enumerate(record.cells)}
    by_cell = {cell.cell: cell.aggregate.ppl_mean for cell in record.cells}
    short = names(every)
    return {
        "name": record.name,
        "cells": [_cell(cell) for cell in record.cells],
        "settings": [_setting(s, short[s.label], cell_places, intervals.get(s.label)) for s in every],
        "best": {strategy: places[setting.label] for strategy, setting in best_of_each(record.cells).items()},
        "curve": _curve(record.curve),
        "further": {name: _curve(points) for name, points in record.further_curves.items()},
        "training": record.tune and record.tune.name,
        "selected": record.tune and {"step": record.tune.selected_step, "by": record.tune.selected_by},
        "few_shot": [
            {
                **{"prompt": s.prompt, "select": s.select, "order": s.order, "draw": s.draw, "k": s.k},
                **{"mean": s.ppl_mean.mean, "std": s.ppl_mean.std},
                "seeds": [[seed, by_cell[cell]] for seed, cell in zip(s.seeds, s.cells, strict=False)],
            }
            for s in record.few_shot
        ],
        "comparisons": [
            {
                **{"a": short.get(c.a, c.a), "b": short.get(c.b, c.b), "difference": c.difference},
                **{"low": c.ci_low, "high": c.ci_high, "p": c.p_holm, "told": told_apart(c)},
            }
            for c in record.comparisons
        ],
        "prompts": record.prompts,
    }


def _cell(cell: CellRecord) -> dict[str, Any]:
    repeat = [f"training seed {cell.train_seed}"] if cell.train_seed is not None else []
    repeat += [f"seed {cell.seed}"] if cell.seed is not None else []
    return {"cell": cell.cell, "prompt": cell.prompt, "k": cell.k, "repeat": ", ".join(repeat)}


def _setting(setting: Setting, name: str, places: Mapping[str, int], bounds: Interval | None) -> dict[str, Any]:
    return {
        "name": name,
        "strategy": setting.strategy,
        "cells": [places[cell.cell] for cell in setting.cells],
        "ppl": setting.mean(),
        "shown": number(setting.mean()),
        "repeats": f"{setting.over().n} {setting.repeated}" if setting.repeated else "",
        "interval": bounds,
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
