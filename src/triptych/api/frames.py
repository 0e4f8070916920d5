"""Records as pandas DataFrames: one line a record, nested numbers in columns of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from triptych.records.schema import FewShotSummary, ItemScore, RunRecord


def frame(lines: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> Any:
    """A DataFrame of these lines; `columns` are its columns where there are no lines."""
    import pandas as pd

    found = list(lines)
    return pd.DataFrame(found) if found else pd.DataFrame(columns=list(columns))


def cells_frame(record: RunRecord) -> Any:
    """A line per cell: strategy, prompt, k, seed, …, its metrics with their intervals, and its four averages."""
    return frame(map(_flat, record.cells), ("cell", "strategy", "prompt", "k", "seed", "ppl_mean"))


def curve_frame(record: RunRecord) -> Any:
    """A line per evaluation during the run's trainings, the first one's first."""
    curves = {(record.tune and record.tune.name) or "": record.curve, **record.further_curves}
    lines = [{"training": name, **_flat(point)} for name, points in curves.items() for point in points]
    return frame(lines, ("training", "step", "epoch", "rows_seen", "split", "ppl_mean"))


def comparisons_frame(record: RunRecord) -> Any:
    """A line per paired difference `a - b` by each `metric`: of `ppl` below zero, of others above zero a is better."""
    return frame(map(_flat, record.comparisons), ("a", "b", "metric", "difference", "ci_low", "ci_high", "p_holm"))


def few_shot_frame(record: RunRecord) -> Any:
    """A line per few-shot setting: mean and standard deviation over its seeds, of every metric too."""
    from triptych.report import Study
    from triptych.report.tables.cells import over_seeds

    study = Study(record)
    names = dict.fromkeys(name for cell in record.cells for name in cell.aggregate.metrics)

    def measured(one: FewShotSummary) -> dict[str, Any]:
        found = {name: over_seeds(one, study, name) for name in names}
        return {name: over.model_dump() for name, over in found.items() if over is not None}

    return frame(
        (_with_spreads({**one.model_dump(mode="json"), **measured(one)}) for one in record.few_shot),
        ("prompt", "k", "ppl_mean", "ppl_mean_std"),
    )


def items_frame(path: Path, strategies: Mapping[str, Mapping[str, Any]]) -> Any:
    """A line per cell and row of `items.parquet`, with the cell's strategy, prompt, k and seed beside.

    Raises:
        DataError: the file is missing or torn.
    """
    from triptych.records.store import read_items

    return frame(
        {"cell": cell, **strategies.get(cell, {}), **with_metrics(_item(item)), "ppl": item.ppl}
        for cell, items in read_items(path).items()
        for item in items
    )


def _item(item: ItemScore) -> dict[str, Any]:
    """Its fields; those of options only where options were scored."""
    line = asdict(item)
    for name in ("chosen", "option_nll", "correct") if item.chosen is None else ():
        del line[name]
    return line


def with_metrics(line: Mapping[str, Any]) -> dict[str, Any]:
    """A row's line with each metric as a column of its own."""
    return {**{name: value for name, value in line.items() if name != "metrics"}, **line.get("metrics", {})}


def _flat(record: BaseModel) -> dict[str, Any]:
    """Averages and metrics at the top, where they are looked for; a metric's interval beside it (`NAME_ci_low`)."""
    line = record.model_dump(mode="json")
    averages = line.pop("aggregate", {})
    for name, value in averages.pop("metrics", {}).items():
        averages |= {name: value["value"], f"{name}_ci_low": value["ci_low"], f"{name}_ci_high": value["ci_high"]}
    versions = {f"version_{name}": version for name, version in (line.pop("versions", None) or {}).items()}
    return {**line, **averages, **versions}


def _with_spreads(line: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in line.items():
        if isinstance(value, dict) and "std" in value:
            flat |= {name: value["mean"], f"{name}_std": value["std"]}
        else:
            flat[name] = value
    return flat
