"""Choosing prompt and demonstrations on dev rows by successive halving (Jamieson & Talwalkar 2016).

    round 1   all candidates          on the first  start_rows  dev rows
    round 2   the better half         on twice as many (those of round 1 included)
    ...       until one is left, or all dev rows are used

Test rows take no part: the winner is scored on them once, after. Every round compares the same rows, by the run's first
metric and, where that is equal, by `ppl_mean`. For a metric of texts each candidate writes its rows' texts. Equal
candidates keep the order they were written in. What was scored is stored in `search.json`, from which an interrupted
search resumes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from triptych.config.metrics import needs_texts
from triptych.config.strategies import SearchConfig
from triptych.data import Row
from triptych.generate.engine import generate_rows
from triptych.generate.plan import choose_limits
from triptych.grid.cells import CellSpec, candidates
from triptych.likelihood.cache import versions
from triptych.likelihood.measured import measure
from triptych.metrics.own import OwnMetricError
from triptych.metrics.texts import score_texts
from triptych.progress import Advance
from triptych.records.identity import MadeFrom, joined_versions, require_same
from triptych.records.schema import Candidate, SearchRecord, Versions
from triptych.records.store import read_json, write_json
from triptych.runner.generation import settings_of
from triptych.runner.session import RunContext


def rounds(n_candidates: int, n_dev: int, start_rows: int) -> list[tuple[int, int]]:
    """(candidates, dev rows) of each round."""
    plan = [(n_candidates, min(start_rows, n_dev))]
    while plan[-1][0] > 1 and plan[-1][1] < n_dev:
        alive, rows = plan[-1]
        plan.append(((alive + 1) // 2, min(2 * rows, n_dev)))
    return plan


@dataclass
class _Scores:
    """What a search has scored: candidate -> a value for each dev row, in the rows' order."""

    ppl: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    """Of the metric that decides, where that isn't perplexity."""
    failed: str | None = None
    """Why that metric could not be computed: the search then compares perplexities."""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    def of(self, cell: CellSpec, n_rows: int) -> tuple[float | None, float]:
        """Mean value, if another metric than perplexity decides, and `ppl_mean` of the first rows."""
        decides = self.values.get(cell.name)
        return fmean(decides[:n_rows]) if decides and not self.failed else None, fmean(self.ppl[cell.name][:n_rows])

    def badness(self, cell: CellSpec, n_rows: int) -> tuple[float, float]:
        """By what candidates are ordered, the best first; of all metrics but perplexity more is better."""
        value, ppl = self.of(cell, n_rows)
        return -value if value is not None else 0.0, ppl


def search_on_dev(run: RunContext, config: SearchConfig) -> tuple[SearchRecord, CellSpec]:
    """Search, or resume an interrupted search. Returns what was tried, and the winner as a cell of the base model."""
    dev, path = run.rows.data.dev, run.folder.path / "search.json"
    cells = candidates(config)
    plan = rounds(len(cells), len(dev), config.start_rows)
    scores = _read(path, run.facts.search(config))
    alive, reached = list(cells), dict.fromkeys((cell.name for cell in cells), 0)
    for number, (n_alive, n_rows) in enumerate(plan, start=1):
        alive = alive[:n_alive]
        title = f"search, round {number} of {len(plan)}: {len(alive)} settings on {n_rows} dev rows"
        with run.reporter.task(title, n_rows * len(alive)) as advance:
            for cell in alive:
                have = len(scores.ppl.setdefault(cell.name, []))
                advance(min(have, n_rows))
                if missing := dev[have:n_rows]:
                    began = time.perf_counter()
                    _score(run, cell, missing, scores, advance)
                    scores.seconds += time.perf_counter() - began
                    scores.versions = joined_versions([scores.versions, versions()])
                    made = run.facts.search(config).record()  # now that the model is loaded, with its dtype
                    write_json(path, {**asdict(scores), **made})
                reached[cell.name] = number
        alive.sort(key=partial(scores.badness, n_rows=n_rows))
    places = {cell.name: place for place, cell in enumerate(alive)}
    tried = []
    for cell in cells:
        last, n_rows = reached[cell.name], plan[reached[cell.name] - 1][1]
        value, mean = scores.of(cell, n_rows)
        tried.append(Candidate(cell=cell.name, rounds=last, n_rows=n_rows, ppl_mean=mean, value=value))
    tried.sort(key=lambda one: (-one.rounds, places.get(one.cell, len(cells)), one.ppl_mean))
    record = SearchRecord(
        winner=alive[0].name,
        metric="perplexity" if scores.failed else run.config.metrics[0],
        candidates=tuple(tried),
        rows_scored=sum(len(values) for values in scores.ppl.values()),
        n_dev=len(dev),
        seconds=scores.seconds,
        versions=Versions(**scores.versions),
    )
    run.reporter.info(f"search: {alive[0].name} is the best of {len(cells)} settings on {plan[-1][1]} dev rows")
    return record, alive[0]


def _read(path: Path, made_from: MadeFrom) -> _Scores:
    """What an interrupted search scored; refused where it was made from something else."""
    if not path.exists():
        return _Scores()
    stored: dict[str, Any] = read_json(path)
    fix = f"to search anew, delete {path}; or give another folder with --out"
    require_same(stored, made_from, where=str(path), what="this search", fix=fix)
    return _Scores(**{name: stored[name] for name in _Scores.__dataclass_fields__ if name in stored})


def _score(run: RunContext, cell: CellSpec, rows: Sequence[Row], scores: _Scores, advance: Advance) -> None:
    """Add further rows of a candidate."""
    metric = run.config.metrics[0]
    _, scorer = run.session.load()
    rendered = run.rows.cell(cell, rows)
    items, _ = measure(scorer, rendered.rows, rendered.options, advance)
    if metric == "accuracy":
        scores.values.setdefault(cell.name, []).extend(item.metrics[metric] for item in items)
    elif needs_texts([metric]) and not scores.failed:
        try:
            scores.values.setdefault(cell.name, []).extend(_of_texts(run, cell, rows, metric))
        except OwnMetricError as error:
            scores.failed = str(error)
            run.reporter.warn(f"{cell.name}: {error}; the search compares perplexities instead")
    scores.ppl[cell.name] += [item.ppl for item in items]


def _of_texts(run: RunContext, cell: CellSpec, rows: Sequence[Row], metric: str) -> list[float]:
    """The metric of what the base model writes for the rows."""
    config, (loaded, _) = run.config.generate, run.session.load()
    assert config is not None
    settings = settings_of(config, run.rows.templates[cell.prompt], cell.k)
    prompts = run.rows.prompts(cell, rows, reserve=settings.max_new_tokens)
    written = generate_rows(loaded, prompts, settings, run.reporter, limits=choose_limits(loaded, None))
    worth = score_texts([metric], rows, [row.text for row in written])
    if metric in worth.errors:
        raise OwnMetricError(worth.errors[metric])
    return [worth.values[metric][row.id] for row in rows]
