"""Records as pandas DataFrames: one line a record, nested numbers in columns of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from triptych.records.schema import RunRecord


def frame(lines: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> Any:
    """A DataFrame of these lines; `columns` are its columns where there are no lines."""
    import pandas as pd

    found = list(lines)
    return pd.DataFrame(found) if found else pd.DataFrame(columns=list(columns))


def cells_frame(record: RunRecord) -> Any:
    """A line per cell: strategy, prompt, k, seed, … and its four averages."""
    return frame(map(_flat, record.cells), ("cell", "strategy", "prompt", "k", "seed", "ppl_mean"))


def curve_frame(record: RunRecord) -> Any:
    """A line per evaluation during the run's trainings, the first one's first."""
    curves = {(record.tune and record.tune.name) or "": record.curve, **record.further_curves}
    lines = [{"training": name, **_flat(point)} for name, points in curves.items() for point in points]
    return frame(lines, ("training", "step", "epoch", "rows_seen", "split", "ppl_mean"))


def comparisons_frame(record: RunRecord) -> Any:
    """A line per paired difference `a - b`: below zero, a is better."""
    return frame(map(_flat, record.comparisons), ("a", "b", "difference", "ci_low", "ci_high", "p_holm"))


def few_shot_frame(record: RunRecord) -> Any:
    """A line per few-shot setting: mean and standard deviation over its seeds."""
    return frame(
        (_with_spreads(one.model_dump(mode="json")) for one in record.few_shot),
        ("prompt", "k", "ppl_mean", "ppl_mean_std"),
    )


def items_frame(path: Path, strategies: Mapping[str, Mapping[str, Any]]) -> Any:
    """A line per cell and row of `items.parquet`, with the cell's strategy, prompt, k and seed beside.

    Raises:
        DataError: the file is missing or torn.
    """
    from triptych.records.store import read_items

    return frame(
        {"cell": cell, **strategies.get(cell, {}), **asdict(item), "ppl": item.ppl}
        for cell, items in read_items(path).items()
        for item in items
    )


def _flat(record: BaseModel) -> dict[str, Any]:
    """Averages at the top, where they are looked for."""
    line = record.model_dump(mode="json")
    averages = line.pop("aggregate", {})
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
