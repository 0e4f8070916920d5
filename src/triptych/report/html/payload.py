"""What `report.html` carries for its plots and its explorer of rows, and in how many pieces.

core       cells, settings, the series of charts, prompts: read at once
rows       ids, lengths, slices and the scores of every row in every cell: read by the explorer
values-N   what every row in every cell has of a further metric, in the order of the core's
answers    options, and which was chosen for each row in each cell
texts      instructions and outputs, of test rows and of demonstrations
chunk-N    tokens and demonstrations of `CHUNK` rows: read when one of them is opened
options-N  probabilities of their likeliest options
written-N  what the models wrote for them, where anything was

Each piece is packed (`packing`) and unpacked by the browser when it needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from types import MappingProxyType
from typing import Any

from triptych.metrics import Metric
from triptych.records import ItemScore, RunRecord
from triptych.records.texts import TokenTexts
from triptych.report.groups import Setting, repeat_of
from triptych.report.html.answers import answers, values
from triptych.report.html.charts import CHARTS, captions
from triptych.report.html.packing import (
    CHUNK,
    LOG_STEP,
    NLL_STEP,
    in_chunks,
    pack_json,
    pack_logs,
    pack_nll,
    pack_values,
)
from triptych.report.measures import PERPLEXITY, row_words
from triptych.report.row_texts import RowTexts
from triptych.report.series import Chart
from triptych.report.study import Items, Study


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
    options = answers(study, ids) if with_texts and ids else {}
    texts_written = in_chunks("written", ids, partial(_written, record, written)) if with_written else {}
    core = {
        **_core(study),
        "has": {"texts": with_texts, "tokens": with_tokens, "written": bool(texts_written), "answers": bool(options)},
        "steps": {"log": LOG_STEP, "nll": NLL_STEP, "chunk": CHUNK},
    }
    parts = {"core": pack_json(core), "rows": pack_json(_rows(record, items, ids, slices))}
    parts["scores"] = pack_logs([_logs(items[cell], ids) for cell in cells] if ids else [])
    parts |= {
        f"values-{place}": pack_values([values(items[cell], ids, metric.name) for cell in cells])
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

        parts |= in_chunks("chunk", ids, chunk)
    return parts | texts_written


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
        "charts": {
            name: _chart(chart, *captions(study)[name]) for name, make in CHARTS.items() if (chart := make(study))
        },
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
