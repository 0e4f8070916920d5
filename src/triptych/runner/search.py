"""Choosing prompt and demonstrations on dev rows by successive halving (Jamieson & Talwalkar 2016).

    round 1   all candidates          on the first  start_rows  dev rows
    round 2   the better half         on twice as many (those of round 1 included)
    ...       until one is left, or all dev rows are used

Test rows take no part: the winner is scored on them once, after. Every round compares the same rows, by the run's first
metric: `ppl_mean`, or accuracy and, where that is equal, `ppl_mean`. Equal candidates keep the order they were written
in. What was scored is stored in `search.json`, from which an interrupted search resumes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from triptych.config.strategies import SearchConfig
from triptych.data import Row
from triptych.grid.cells import CellSpec, candidates
from triptych.likelihood.cache import versions
from triptych.likelihood.measured import measure
from triptych.progress import Advance
from triptych.records import ItemScore
from triptych.records.identity import MadeFrom, joined_versions, require_same
from triptych.records.schema import Candidate, SearchRecord, Versions
from triptych.records.store import read_json, write_json
from triptych.runner.session import RunContext


def rounds(n_candidates: int, n_dev: int, start_rows: int) -> list[tuple[int, int]]:
    """(candidates, dev rows) of each round."""
    plan = [(n_candidates, min(start_rows, n_dev))]
    while plan[-1][0] > 1 and plan[-1][1] < n_dev:
        alive, rows = plan[-1]
        plan.append(((alive + 1) // 2, min(2 * rows, n_dev)))
    return plan


def search_on_dev(run: RunContext, config: SearchConfig) -> tuple[SearchRecord, CellSpec]:
    """Search, or resume an interrupted search. Returns what was tried, and the winner as a cell of the base model."""
    dev, path = run.rows.data.dev, run.folder.path / "search.json"
    cells = candidates(config)
    plan = rounds(len(cells), len(dev), config.start_rows)
    before = _read(path, run.facts.search(config))
    ppl: dict[str, list[float]] = before.get("ppl", {})
    by_accuracy = run.config.metrics[0] == "accuracy"
    right: dict[str, list[float]] = before.get("accuracy", {})
    spent: float = before.get("seconds", 0.0)
    used: dict[str, str] = before.get("versions", {})
    alive, reached = list(cells), dict.fromkeys((cell.name for cell in cells), 0)
    for number, (n_alive, n_rows) in enumerate(plan, start=1):
        alive = alive[:n_alive]
        title = f"search, round {number} of {len(plan)}: {len(alive)} settings on {n_rows} dev rows"
        with run.reporter.task(title, n_rows * len(alive)) as advance:
            for cell in alive:
                have, correct = ppl.setdefault(cell.name, []), right.setdefault(cell.name, [])
                began = time.perf_counter()
                advance(min(len(have), n_rows))
                if missing := dev[len(have) : n_rows]:
                    items = _scored(run, cell, missing, advance)
                    have += [item.ppl for item in items]
                    correct += [item.metrics["accuracy"] for item in items if by_accuracy]
                    spent += time.perf_counter() - began
                    used = joined_versions([used, versions()])
                    made = run.facts.search(config).record()  # now that the model is loaded, with its dtype
                    scores = {"ppl": ppl, **({"accuracy": right} if by_accuracy else {})}
                    write_json(path, {**scores, "seconds": spent, "versions": used, **made})
                reached[cell.name] = number
        alive.sort(key=partial(_badness, n_rows=n_rows, ppl=ppl, right=right if by_accuracy else None))
    places = {cell.name: place for place, cell in enumerate(alive)}
    tried = []
    for cell in cells:
        last, n_rows = reached[cell.name], plan[reached[cell.name] - 1][1]
        value = fmean(right[cell.name][:n_rows]) if by_accuracy else None
        mean = fmean(ppl[cell.name][:n_rows])
        tried.append(Candidate(cell=cell.name, rounds=last, n_rows=n_rows, ppl_mean=mean, accuracy=value))
    tried.sort(key=lambda one: (-one.rounds, places.get(one.cell, len(cells)), one.ppl_mean))
    record = SearchRecord(
        winner=alive[0].name,
        candidates=tuple(tried),
        rows_scored=sum(len(values) for values in ppl.values()),
        n_dev=len(dev),
        seconds=spent,
        versions=Versions(**used),
    )
    run.reporter.info(f"search: {alive[0].name} is the best of {len(cells)} settings on {plan[-1][1]} dev rows")
    return record, alive[0]


def _read(path: Path, made_from: MadeFrom) -> dict[str, Any]:
    """What an interrupted search scored; refused where it was made from something else."""
    if not path.exists():
        return {}
    stored: dict[str, Any] = read_json(path)
    fix = f"to search anew, delete {path}; or give another folder with --out"
    require_same(stored, made_from, where=str(path), what="this search", fix=fix)
    return stored


def _badness(
    cell: CellSpec, *, n_rows: int, ppl: Mapping[str, Sequence[float]], right: Mapping[str, Sequence[float]] | None
) -> tuple[float, float]:
    """By what candidates are ordered, the best first."""
    wrong = 0.0 if right is None else -fmean(right[cell.name][:n_rows])
    return wrong, fmean(ppl[cell.name][:n_rows])


def _scored(run: RunContext, cell: CellSpec, rows: Sequence[Row], advance: Advance) -> list[ItemScore]:
    _, scorer = run.session.load()
    rendered = run.rows.cell(cell, rows)
    return measure(scorer, rendered.rows, rendered.options, advance)[0]
