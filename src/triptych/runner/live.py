"""What can be seen of a run while it goes on: one bar for all of it, a line for each finished cell, and `report.html`.

The report is written when the first cell is finished and again at most every `EVERY` seconds of work, less often
where writing it takes long: all of them together take at most `SHARE` of the run. Nothing here can stop a run: a
report that can't be written is a warning, once. What is written at the run's end (`results`) replaces it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Protocol

import numpy as np
import numpy.typing as npt

from triptych.config.strategies import SearchConfig
from triptych.grid.cells import CellSpec, TrainingSpec
from triptych.progress import Advance
from triptych.records import CellRecord, TuneSummary
from triptych.records.schema import GenerationRecord, SearchRecord, Strategy
from triptych.records.texts import TokenTexts
from triptych.report import Study, build_so_far
from triptych.report.groups import STRATEGIES
from triptych.report.numbers import number
from triptych.report.row_texts import RowTexts
from triptych.report.so_far import REFRESH_SECONDS, SoFar
from triptych.report.text.markdown import duration
from triptych.runner.folder import FinishedCell
from triptych.runner.results import demos_shown, run_record, token_pieces, with_texts
from triptych.runner.run_log import RunLog
from triptych.runner.session import RunContext
from triptych.runner.time_left import Estimate, TimeLeft

EVERY = 20.0
"""Seconds between two reports, at least."""
SHARE = 0.03
WHOLE = 1000
"""Parts of the bar."""
LOOK = 0.5
"""Seconds between two looks at what is done."""

logger = logging.getLogger(__name__)


class GoingOn(Protocol):
    """A run, as far as it is looked at here; what it has done is added to these by others."""

    context: RunContext
    cells: list[CellSpec]
    trainings: list[TrainingSpec]
    tuned: dict[TrainingSpec, TuneSummary]
    written: dict[str, GenerationRecord]
    searched: SearchRecord | None
    wanted_search: SearchConfig | None


class LiveReport:
    """Shows one run. Does nothing before `begin`, so the ranks that only train have one that stays silent."""

    def __init__(self, run: GoingOn, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self._clock = run, clock
        context = run.context
        self._time_left = TimeLeft(context.config, context.rows.data, clock=clock)
        self._log: RunLog | None = None
        self._stack = ExitStack()
        self._advance: Advance = lambda _: None
        self._done = 0
        """Of `WHOLE`, as the bar shows it."""
        self._looked = self._due = -float("inf")
        self._every, self._reports, self._failed = EVERY, 0, False
        self._pieces: dict[str, list[tuple[str, int]]] | None = None
        self._nll: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
        self._busy = threading.Lock()  # it is called from whatever makes progress, its own bar included

    def begin(self, log: RunLog) -> None:
        """Open the bar, and look whenever something that `log` is told of is done."""
        self._log = log
        estimate = self._estimate()
        self._done = int(WHOLE * estimate.share) if estimate else 0
        counted = {"cell": len(self.run.cells), "training": len(self.run.trainings)}
        parts = [f"{n} {what}{'s' if n > 1 else ''}" for what, n in counted.items() if n]
        title = f"whole run: {', '.join(parts)}"
        self._advance = self._stack.enter_context(log.task(title, WHOLE, done=self._done, unit="%"))
        log.on_progress = self.update
        self.update()

    def share_among(self, processes: int) -> None:
        """Say how many cells and trainings are computed at a time."""
        self._time_left.workers = processes

    def close(self, *, done: bool = False) -> None:
        """Close the bar, which is full if all is done. A second call does nothing."""
        if self._log is not None:
            self._log.on_progress = None
            if done:
                self._advance(WHOLE - self._done)
            self._stack.close()
            self._log = None

    def scored(self, record: CellRecord) -> None:
        """A line for a finished cell, then as `update`."""
        if self._log is None:
            return
        rows, metrics = record.aggregate.n_rows, record.aggregate.metrics
        shown = {name: metrics[name].value for name in self.run.context.config.metrics if name in metrics}
        shown["ppl_mean"] = record.aggregate.ppl_mean
        numbers = ", ".join(f"{name} {number(value)}" for name, value in shown.items())
        place = f"{len(self.run.context.finished)}/{len(self.run.cells)}"
        cached = f", {record.rows_cached:,} looked up" if record.rows_cached else ""
        took = f"{record.seconds:.1f} s" if record.seconds < 60 else duration(record.seconds)
        self._log.info(f"{place} {record.cell}: {numbers} ({rows:,} rows{cached}, {took})")
        self._looked = -float("inf")
        self.update()

    def update(self) -> None:
        """Move the bar, and write the report if it is due."""
        if self._log is None or not self._busy.acquire(blocking=False):
            return
        try:
            if (now := self._clock()) < self._looked + LOOK:
                return
            self._looked = now
            estimate = self._estimate()
            if estimate and (done := int(WHOLE * estimate.share)) > self._done:
                self._advance(done - self._done)
                self._done = done
            if now >= self._due and self.run.context.finished and self._is_work_left():
                self._write(estimate)
                took = self._clock() - now
                self._every = max(EVERY, took / SHARE)
                self._due = now + took + self._every
        except Exception as error:
            self._due = self._clock() + self._every
            if not self._failed:
                said = f"{type(error).__name__}: {error}"
                logger.warning("the report so far can't be written; the run goes on: %s", said, exc_info=error)
            self._failed = True
        finally:
            self._busy.release()

    def _estimate(self) -> Estimate | None:
        run, finished = self.run, self.run.context.finished
        going_on = self._log.open if self._log is not None else []
        return self._time_left.estimate(run.cells, finished, run.trainings, run.tuned, going_on)

    def _is_work_left(self) -> bool:
        """Whether the run will go on: what is whole is reported by its end."""
        run = self.run
        cells = any(cell.name not in run.context.finished for cell in run.cells)
        trainings = any(training not in run.tuned for training in run.trainings)
        return cells or trainings or self._searching() or run.context.config.generate is not None

    def _searching(self) -> bool:
        return self.run.wanted_search is not None and self.run.searched is None

    def _so_far(self, estimate: Estimate | None) -> SoFar:
        run, config = self.run, self.run.context.config
        of = Counter(cell.strategy for cell in run.cells)
        done = Counter(cell.strategy for cell in run.cells if cell.name in run.context.finished)
        tasks = self._log.open if self._log is not None else []
        left_out = {"the search": self._searching(), "the texts to be written": config.generate is not None}
        return SoFar(
            cells={strategy: (done[strategy], of[strategy]) for strategy in _ordered(of)},
            trainings=(len(run.tuned), len(run.trainings)),
            steps=tuple((task.done, task.total) for task in tasks if task.unit == "steps"),
            seconds_left=estimate.until_end if estimate else None,
            share=self._done / WHOLE,
            not_counted=tuple(name for name, there in left_out.items() if there),
            refresh_seconds=max(REFRESH_SECONDS, round(self._every / 2)),
        )

    def _write(self, estimate: Estimate | None) -> None:
        run, context = self.run, self.run.context
        # a copy: cells that are finished meanwhile belong to the next one
        finished = {cell.name: context.finished[cell.name] for cell in run.cells if cell.name in context.finished}
        texts = tuple(run.written.values())
        finished = with_texts(finished, texts)
        record = run_record(context, finished, run.trainings, dict(run.tuned), texts=texts)
        items = {name: cell.items for name, cell in finished.items()}
        build_so_far(context.folder.path, Study(record, items, self._so_far(estimate)), self._texts(finished))
        self._reports += 1
        if self._reports == 1 and self._log is not None:
            path = context.folder.path / "report.html"
            self._log.info(f"report so far: {path} (open it now: it refreshes itself until the run is done)")

    def _texts(self, finished: Mapping[str, FinishedCell]) -> RowTexts:
        """Texts and tokens as the report would read them from the records."""
        rows = self.run.context.rows
        if self._pieces is None:
            self._pieces = token_pieces(rows.data, rows.profile)
        for name, cell in finished.items():
            if name not in self._nll:
                pairs = zip(cell.items, cell.token_nll, strict=True)
                self._nll[name] = {item.id: np.asarray(nll, dtype=np.float32) for item, nll in pairs}
        roles = {"test": rows.data.test, "demo": demos_shown(finished, rows.data)}
        return RowTexts(
            {role: {row.id: (row.instruction, row.output or "") for row in of} for role, of in roles.items()},
            TokenTexts(self._pieces, self._nll),
            {row.id: dict(row.columns) for row in rows.data.test if row.columns},
        )


def _ordered(strategies: Mapping[Strategy, int]) -> list[Strategy]:
    return [strategy for strategy in STRATEGIES if strategy in strategies]
