"""The crossover: each strategy's curve over numbers of labelled rows, and where two of them cross (`crossing`).

zero_shot               needs none: the same everywhere (the best prompt)
few_shot/bm25/k=4       demonstrations from the labelled rows
qlora                   trained on them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from triptych.metrics import Metric, metric_of
from triptych.records import CellRecord, ItemScore
from triptych.records.schema import Crossing, Crossover, CurveAt
from triptych.report.budgets import most_rows
from triptych.report.crossing import Point, crossing, difference, estimate
from triptych.report.groups import STRATEGIES, best_of_each, group_cells
from triptych.report.measures import average_of, measured, rows_of
from triptych.report.proportions import wilson

Items = Mapping[str, Sequence[ItemScore]]
UNDECIDED = "can't be told"
"""How `Crossing.said` begins where no number of rows tells two strategies apart."""


def crossovers(cells: Sequence[CellRecord], items: Items, metrics: Sequence[str]) -> tuple[Crossover, ...]:
    """By each metric of a run with budgets; none without."""
    if len({cell.budget for cell in cells if cell.budget is not None}) < 2 and not any(
        cell.budget_seed is not None for cell in cells
    ):
        return ()
    made = [_by_metric(cells, items, metric_of(name)) for name in metrics]
    return tuple(one for one in made if one is not None)


def _by_metric(cells: Sequence[CellRecord], items: Items, metric: Metric) -> Crossover | None:
    known = [cell for cell in cells if measured(cell.aggregate, average_of(metric)) is not None]
    budgets = sorted({cell.budget for cell in known if cell.budget is not None})
    if not budgets:
        return None
    values = {cell.cell: rows_of(items[cell.cell], metric) for cell in known}
    rows = sorted(set.intersection(*(set(of_cell) for of_cell in values.values())))
    curves = _curves(known, {name: [of[row] for row in rows] for name, of in values.items()}, budgets, metric)
    made = {}
    for name, points in curves.items():
        means = estimate(points)
        value, half = means.at(np.eye(len(points)))
        made[name] = tuple(
            _at(point, mean, width, share=metric.zero_or_one)
            for point, mean, width in zip(points, value.tolist(), half.tolist(), strict=True)
        )
    crossings = [_crossing(a, curves[a], b, curves[b], metric) for a, b in combinations(curves, 2)]
    return Crossover(
        metric=metric.name,
        budgets=tuple(budgets),
        curves=made,
        crossings=tuple(one for one in crossings if one is not None),
    )


def _at(point: Point, mean: float, half: float, *, share: bool) -> CurveAt:
    """A point of a curve. The interval of a share is within 0 and 1, and no narrower than Wilson's of the rows."""
    low, high, (n_seeds, n_rows) = mean - half, mean + half, point.values.shape
    if share:
        of_rows = wilson(mean * n_rows, n_rows)
        low, high = max(0.0, min(low, of_rows.low)), min(1.0, max(high, of_rows.high))
    return CurveAt(budget=point.budget, mean=mean, ci_low=low, ci_high=high, seeds=n_seeds)


def _curves(
    cells: Sequence[CellRecord], values: Mapping[str, list[float]], budgets: Sequence[int], metric: Metric
) -> dict[str, list[Point]]:
    """Name -> its points, budgets ascending; the cheapest strategy first."""
    prompts = best_of_each(group_cells(most_rows(cells)), metric)
    curves: dict[str, list[Point]] = {}
    if zero := prompts.get("zero_shot"):
        flat = np.array([values[zero.first.cell]])
        curves["zero_shot"] = [Point(budget, flat, fixed=True) for budget in budgets]
    named: dict[str, list[CellRecord]] = {}
    for cell in sorted(cells, key=lambda cell: STRATEGIES.index(cell.strategy)):
        if cell.budget is not None and (name := _name(cell, cells)):
            named.setdefault(name, []).append(cell)
    for name, of_curve in named.items():
        points = []
        for budget in budgets:
            if here := [cell for cell in of_curve if cell.budget == budget]:
                fixed = all(cell.budget_seed is None and cell.seed is None and not cell.training for cell in here)
                points.append(Point(budget, np.array([values[cell.cell] for cell in here]), fixed))
        curves[name] = points
    return curves


def _name(cell: CellRecord, cells: Sequence[CellRecord]) -> str | None:
    """Of the curve that a cell is on; None for an adapter under another prompt or demonstrations than its own."""
    alike = [other for other in cells if other.strategy == cell.strategy]
    parts: list[str] = [cell.strategy]
    if cell.strategy == "qlora":
        if cell.k != cell.trained_k or cell.prompt != (cell.trained_prompt or cell.prompt):
            return None
        parts += [f"trained_k={cell.trained_k}"] if cell.trained_k else []
    else:
        parts += [cell.select or "random", f"k={cell.k}"]
    for key in ("prompt", "draw", "order") if cell.strategy == "few_shot" else ():
        value = getattr(cell, key)
        if len({getattr(other, key) for other in alike if other.select == cell.select}) > 1:
            parts.append(f"{key}={value}")
    return "/".join(parts)


def _crossing(a: str, ours: list[Point], b: str, theirs: list[Point], metric: Metric) -> Crossing | None:
    """Where b, the dearer one, becomes the better one: or the other way round, with the names exchanged."""
    points = difference(ours, theirs)
    if len(points) < 2:
        return None
    found, means = crossing(estimate(points)), [float(point.values.mean()) for point in points]
    lead = 1 if metric.higher_is_better else -1
    within = f"{points[0].budget:,} … {points[-1].budget:,}"
    if not found.sure:
        return Crossing(a=a, b=b, budget=None, ci_low=None, ci_high=None, said=f"{UNDECIDED} within {within}")
    if found.budget is None:
        said = f"never within {within}" if means[0] * lead > 0 else f"before {points[0].budget:,}"
        return Crossing(a=a, b=b, budget=None, ci_low=found.low, ci_high=found.high, said=said)
    if (found.falls) != (lead > 0):  # b is the better one with few rows
        a, b = b, a
    often = None if found.times == 1 else f"they cross {found.times} times; this is the last"
    return Crossing(a=a, b=b, budget=found.budget, ci_low=found.low, ci_high=found.high, said=often)
