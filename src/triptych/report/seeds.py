"""Means and spreads over seeds, apart from the uncertainty that the choice of test rows brings (`statistics`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.prompts.selection import DRAWN
from triptych.records import Averaged, CellRecord, FewShotSummary


def selection(cell: CellRecord) -> str | None:
    """How a cell's demonstrations were chosen; runs of earlier versions, which don't say, drew them at random."""
    return cell.select or "random" if cell.k else None


def summarise_few_shot(cells: Sequence[CellRecord]) -> tuple[FewShotSummary, ...]:
    """Mean and standard deviation (n-1) over seeds of the four averages, by (prompt, select, order, draw, k).

    In that order, random demonstrations first. Cells with an adapter on are left out, since they are QLoRA with
    demonstrations, and so are cells found by search, which were chosen on dev rows and not asked for.
    """
    groups: defaultdict[tuple[str, bool, str, str, str, int], list[CellRecord]] = defaultdict(list)
    for cell in cells:
        if cell.strategy == "few_shot" and cell.adapter_sha256 is None and cell.searched is None:
            select = selection(cell) or "random"
            groups[cell.prompt, select != "random", select, cell.order or "", cell.draw or "", cell.k].append(cell)
    return tuple(_summary(groups[key]) for key in sorted(groups))


def _summary(group: list[CellRecord]) -> FewShotSummary:
    first, select = group[0], selection(group[0]) or "random"
    unknown = [cell.cell for cell in group if cell.seed is None or cell.draw is None]
    if unknown and select in DRAWN:
        raise ValueError(f"a few-shot cell with demonstrations drawn needs a seed and a draw: {unknown[0]!r}")
    ordered = sorted(group, key=lambda cell: (cell.seed or 0, cell.cell))
    averages: dict[str, Any] = {}
    for name in ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char"):
        values = [getattr(cell.aggregate, name) for cell in ordered]
        averages[name] = None if None in values else averaged(values)  # a cell may lack bits_per_char
    return FewShotSummary(
        prompt=first.prompt,
        draw=first.draw,
        select=select,
        order=first.order,
        k=first.k,
        seeds=tuple(cell.seed for cell in ordered if cell.seed is not None),
        cells=tuple(cell.cell for cell in ordered),
        **averages,
    )


def averaged(values: Sequence[float]) -> Averaged:
    """Mean and n-1 standard deviation; of one value None, since 0 would be wrong."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Averaged(mean=float(np.mean(values)), std=std, n=len(values))
