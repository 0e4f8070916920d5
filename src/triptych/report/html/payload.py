"""What `report.html` carries for its plots and its explorer of rows, and in how many pieces.

core       cells, settings, the series of charts, prompts: read at once
rows       ids, lengths, slices and the scores of every row in every cell: read by the explorer
values-N   what every row in every cell has of a further metric, in the order of the core's
answers    options, and which was chosen for each row in each cell
texts      instructions and outputs, of test rows and of demonstrations
chunk-N    tokens and demonstrations of `CHUNK` rows: read when one of them is opened
options-N  probabilities of their likeliest options
written-N  what the models wrote for them, where anything was

Each piece is gzip in base64 in a script tag, unpacked by the browser when it needs it. Base64 has no `<`, so no row's
text can close the tag.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from triptych.metrics import Metric
from triptych.metrics.classes import probabilities
from triptych.records import ItemScore, RunRecord
from triptych.records.texts import TokenTexts
from triptych.report.groups import Setting, repeat_of
from triptych.report.html.charts import CHARTS, captions
from triptych.report.measures import PERPLEXITY, row_words
from triptych.report.row_texts import RowTexts
from triptych.report.series import Chart
from triptych.report.study import Items, Study

CHUNK = 250
"""Rows whose tokens are unpacked together."""
LOG_STEP = 5e-4
"""Steps of ln(ppl): perplexities keep three significant places and a half."""
LIKELIEST = 5
"""Options of a row whose probabilities are shown; the reference's is always among them."""
NLL_STEP = 0.1
"""Steps of a token's NLL in nats: what is shown has one decimal."""
NLL_LEVELS = 251
FIRST = 0x23
"""Code point of NLL 0: `#`. One character a token, and none of them needs escaping but the backslash."""


def payload(
    study: Study,
    texts: RowTexts,
    *,
    slices: Mapping[str, Mapping[str, str]],
    written: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> dict[str, str]:
    """Name -> packed text. `slices`: name -> row id -> value; `written`: cell -> row id -> the model's text."""
    record, items = study.record, study.items
    ids = _ids(record, items)
    test = texts.rows.get("test", {})
    with_texts = bool(ids) and all(row in test for row in ids)
    with_tokens = bool(ids) and all(row in texts.tokens.pieces for row in ids)
    cells = [cell.cell for cell in record.cells]
    with_written = any(g.cell in written and g.cell in cells for g in record.generations)
    options = _answers(study, ids) if with_texts and ids else {}
    texts_written = _in_chunks("written", ids, partial(_written, record, written)) if with_written else {}
    core = {
        **_core(study),
        "has": {"texts": with_texts, "tokens": with_tokens, "written": bool(texts_written), "answers": bool(options)},
        "steps": {"log": LOG_STEP, "nll": NLL_STEP, "chunk": CHUNK},
    }
    parts = {"core": pack_json(core), "rows": pack_json(_rows(record, items, ids, slices))}
    parts["scores"] = pack_logs([_logs(items[cell], ids) for cell in cells] if ids else [])
    parts |= {
        f"values-{place}": pack_values([_values(items[cell], ids, metric.name) for cell in cells])
        for place, metric in enumerate(shown_metrics(study))
        if metric != PERPLEXITY
    }
    parts |= options
    if with_texts:
        demos = texts.rows.get("demo", {})
        parts["texts"] = pack_json({"test": [test[row] for row in ids], "demo": list(demos.values())})
        shown = _shown_demos(record, items, list(demos))

        def chunk(rows: Sequence[str]) -> dict[str, Any]:
            tokens = _tokens_chunk(cells, rows, texts.tokens) if with_tokens else {}
            return {"demos": [cell and [cell[row] for row in rows] for cell in shown], **tokens}

        parts |= _in_chunks("chunk", ids, chunk)
    return parts | texts_written


def _in_chunks(name: str, ids: Sequence[str], content: Callable[[Sequence[str]], Any]) -> dict[str, str]:
    starts = range(0, len(ids), CHUNK)
    return {f"{name}-{n}": pack_json(content(ids[start : start + CHUNK])) for n, start in enumerate(starts)}


def _written(record: RunRecord, written: Mapping[str, Mapping[str, str]], rows: Sequence[str]) -> list[Any]:
    """For each cell with texts its place among the cells, and for each row [chrF++, text], or None without a text."""
    places = {cell.cell: place for place, cell in enumerate(record.cells)}
    scored = {g.cell: g.row_chrf for g in record.generations if g.cell in written and g.cell in places}
    return [
        [places[cell], [[round(chrf[r], 2), texts[r]] if r in texts and r in chrf else None for r in rows]]
        for cell, chrf in scored.items()
        for texts in [written[cell]]
    ]


def _ids(record: RunRecord, items: Items) -> list[str]:
    """Rows of the first cell, in the test file's order; rows that not every cell has can't be compared."""
    if not record.cells:
        return []
    shared = set.intersection(*({item.id for item in items[cell.cell]} for cell in record.cells))
    return [item.id for item in items[record.cells[0].cell] if item.id in shared]


def _core(study: Study) -> dict[str, Any]:
    labels, cells = [setting.label for setting in study.settings], [cell.cell for cell in study.cells]
    metrics = shown_metrics(study)
    return {
        "name": study.record.name,
        "metrics": [_metric(study.by(metric), labels) for metric in metrics],
        "cells": [
            {"cell": c.cell, "prompt": c.prompt, "k": c.k, "repeat": ", ".join(repeat_of(c))} for c in study.cells
        ],
        "settings": [_setting(s, study, cells) for s in study.settings],
        "prompts": study.record.prompts,
    }


def shown_metrics(study: Study) -> list[Metric]:
    """Those that a reader can switch between: the run's, the deciding one first, and perplexity."""
    return list(dict.fromkeys((study.metric, *study.metrics, PERPLEXITY)))


def _metric(study: Study, labels: Sequence[str]) -> dict[str, Any]:
    """A metric, the best of each strategy by it, the best of all first, and its charts."""
    metric = study.metric
    facts = {"name": metric.name, "label": metric.label, "word": row_words(metric), "higher": metric.higher_is_better}
    return {
        **facts,
        **{"share": metric.zero_or_one, "top": metric.top, "options": metric.needs == "options"},
        "best": {strategy: labels.index(setting.label) for strategy, setting in study.best.items()},
        "ranked": [labels.index(setting.label) for setting in study.ranked],
        "charts": {name: _chart(chart, *captions(study)[name]) for name, make in CHARTS.items() if (chart := make(study))},
    }


def _chart(chart: Chart, title: str, caption: str) -> dict[str, Any]:
    axes: dict[str, Any] = {"title": title, "caption": caption}
    axes |= {"x": chart.x, "y": chart.y, "log": chart.log, "ticks": chart.ticks}
    return {**axes, "series": [asdict(series) for series in chart.series]}


def _setting(setting: Setting, study: Study, cells: Sequence[str]) -> dict[str, Any]:
    return {
        "name": study.name(setting.label),
        "strategy": setting.strategy,
        "cells": [cells.index(cell.cell) for cell in setting.cells],
        "repeats": f"{setting.over().n} {setting.repeated}" if setting.repeated else "",
    }


def _values(rows: Sequence[ItemScore], ids: Sequence[str], metric: str) -> list[float]:
    by_id = {item.id: item.metrics.get(metric, math.nan) for item in rows}
    return [by_id[row] for row in ids]


def _answers(study: Study, ids: Sequence[str]) -> dict[str, str]:
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
    parts = {"answers": pack_json({"options": list(places), "chosen": chosen, "correct": correct, "known": bool(options)})}
    if not options:
        return parts
    likely = [{row: _likeliest(rows[row]) for row in ids} for rows in cells]
    return parts | _in_chunks("options", ids, lambda rows: [[of_cell[row] for row in rows] for of_cell in likely])


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


def _rows(
    record: RunRecord, items: Items, ids: Sequence[str], slices: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    n_tokens = {item.id: item.n_tokens for item in items[record.cells[0].cell]} if record.cells else {}
    return {
        "ids": list(ids),
        "n_tokens": [n_tokens[row] for row in ids],
        "slices": {name: _coded(values, ids) for name, values in slices.items()},
    }


def _coded(values: Mapping[str, str], ids: Sequence[str]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(values.values()))
    return {"values": kinds, "codes": [kinds.index(values[row]) if row in values else -1 for row in ids]}


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


def pack(content: bytes) -> str:
    """Bytes as base64 of gzip; the same bytes always give the same text."""
    return base64.b64encode(gzip.compress(content, compresslevel=9, mtime=0)).decode("ascii")


def pack_json(value: Any) -> str:
    """JSON, packed."""
    return pack(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def pack_logs(columns: Iterable[Sequence[float]]) -> str:
    """Columns of ln(ppl), one after the other, as 16-bit integers in steps of `LOG_STEP`.

    Each column is stored as its difference to the one before: rows that are hard are hard everywhere, so the
    differences are small and compress well. High and low bytes are stored apart for the same reason.
    """
    exact = np.array([list(column) for column in columns], dtype=np.float64)
    if exact.size == 0:
        return pack(b"")
    codes = np.clip(np.rint(exact / LOG_STEP), 0, 65535).astype(np.int64)
    steps = np.diff(codes, axis=0, prepend=0) & 0xFFFF
    return pack((steps >> 8).astype(np.uint8).tobytes() + (steps & 0xFF).astype(np.uint8).tobytes())


def pack_values(columns: Iterable[Sequence[float]]) -> str:
    """Columns of values, one after the other, as 32-bit numbers; NaN where there is none."""
    return pack(np.array([list(column) for column in columns], dtype="<f4").tobytes())


def pack_nll(rows: Sequence[npt.ArrayLike]) -> list[str]:
    """The NLLs of rows' tokens as a string a row, one character a token, in steps of `NLL_STEP`."""
    if not len(rows):
        return []
    exact = np.concatenate([np.asarray(row, dtype=np.float64) for row in rows])
    codes = np.clip(np.floor(exact / NLL_STEP + 0.5), 0, NLL_LEVELS - 1).astype("<u4") + FIRST
    text, ends = codes.astype("<u4").tobytes().decode("utf-32-le"), np.cumsum([np.size(row) for row in rows]).tolist()
    return [text[begin:end] for begin, end in pairwise([0, *ends])]
