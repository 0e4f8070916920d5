"""The experiment: every cell scored once, every training done once, one report; nothing is computed twice.

read and check everything  ─►  lock the folder  ─►  tasks, here or in other processes (`executors`)  ─►  report
    base cells  ·  search on dev  ─►  its winner on test  ·  each training  ─►  its adapter's cells  ─►  texts
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from triptych.config.executor import ExecutorChoice, executor_choice
from triptych.config.experiment import ExperimentConfig
from triptych.errors import Interrupted, TriptychError
from triptych.grid.cells import CellSpec, TrainingSpec, grid, needs_vectors, trainings
from triptych.grid.suited import with_prompts
from triptych.progress import Reporter, Silent
from triptych.records import CurvePoint, RunRecord, TuneSummary
from triptych.records.disk import is_there
from triptych.records.manifest import Manifest
from triptych.records.process_lock import work_in
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.report import write_curve
from triptych.report.tables.overview import flat
from triptych.runner.executors.choose import choose_executor, prepare_workers
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.live import LiveReport
from triptych.runner.prepare import prepare
from triptych.runner.results import write_results
from triptych.runner.resume import check_adapter_of_cell, finished_adapter, finished_cells
from triptych.runner.run_log import RunLog
from triptych.runner.session import RunContext
from triptych.runner.tasks import Embed, Outcome, Score, Search, Task, Train, Write
from triptych.runner.written_cells import to_write
from triptych.trackers.trackers import Trackers, check_trackers
from triptych.training import World, process_group


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    fresh: bool = False,
    reporter: Reporter | None = None,
    runtime_choices: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
    scores: Path | None = None,
    on: str | None = None,
) -> RunRecord:
    """Run an experiment, or resume one that was begun in this folder.

    Under `torchrun` the ranks share the trainings; rank 0 does the rest, and the others wait for it.

    Args:
        config: what to run.
        out: the run's folder.
        fresh: remove what an earlier run left there, first.
        reporter: told of progress.
        runtime_choices: dtype, threads, storage of the weights and token budget of another run, to be used here.
        only: names of cells; nothing is computed that these don't need. None for all.
        scores: file of scores to look up, instead of the user's cache (where `cache` allows one).
        on: the executor, `auto` or `local:N`; None for the environment variable TRIPTYCH_ON, or else `auto`.

    Raises:
        RunBusyError: another process works in this folder.
        RunChangedError: the folder was begun with other settings.
        InputError: anything the user gave that can't be used; checked before any work, as far as possible.
        Interrupted: the user stopped a training; everything is saved.
    """
    choice = executor_choice(on)
    with process_group(config.model.device) as world, ExitStack() as stack:
        log = RunLog((reporter or Silent()) if world.is_rank0 else Silent())
        folder, config = RunFolder(out), with_prompts(config, log)
        cells = [cell for cell in grid(config) if only is None or cell.name in only]
        begun: list[_Run] = []

        def begin(**options: Any) -> _Run:
            check_trackers(config.report.trackers)
            run = _Run(prepare(config, cells, folder, log, scores=scores, **options), cells, world, whole=only is None)
            begun.append(run)
            return run

        def enter() -> Manifest:
            return stack.enter_context(work_in(out))

        def first_of_all() -> None:
            prepare_workers(choice, world, out)
            if is_there(out, Path.is_dir):  # else it is made, and locked, when the input was checked (`prepare`)
                enter()
            run = begin(enter=enter, fresh=fresh, runtime_choices=runtime_choices)
            log.begin(out)  # not sooner, since `fresh` sets aside what was written before
            run.live.begin(log)
            run.trackers.config(flat(config.model_dump(mode="json")))

        try:
            world.on_rank0(first_of_all)
            run = begun[0] if begun else begin()
            run.compute(choice, scores, stack)
            record = world.on_rank0(run.write_results)
        except BaseException as error:
            log.ended(error)
            raise
        finally:
            for run in begun:
                run.live.close()
                run.trackers.close()  # sends what is left; after an interruption too
            if world.is_rank0:
                folder.give_up_replacing()
        log.ended()
        return record


class _Run:
    """The steps of a run whose input was checked.

    Args:
        context: what every step works with.
        cells: those to score; a search adds its winner.
        world: the processes that share the trainings.
        whole: all of the experiment is run, its search too; else what these cells need.
    """

    def __init__(self, context: RunContext, cells: list[CellSpec], world: World, *, whole: bool) -> None:
        self.context, self.cells, self.world = context, cells, world
        self.config, self.folder = context.config, context.folder
        self.finished, self.facts = context.finished, context.facts
        needed = {cell.training for cell in cells}
        self.trainings = [training for training in trainings(self.config) if whole or training in needed]
        self.wanted_search = self.config.strategies.search if whole else None
        self.tuned: dict[TrainingSpec, TuneSummary] = {}
        self.written: dict[str, GenerationRecord] = {}
        self.searched: SearchRecord | None = None
        self._after_embedding: list[Task] = []
        used = self.config.report.trackers if world.is_rank0 else ()
        self.trackers = Trackers(used, self.folder.path, title=self.config.name, reporter=context.reporter)
        self.live = LiveReport(self)

    def compute(self, choice: ExecutorChoice, scores: Path | None, stack: ExitStack) -> None:
        """Compute every task, and, when it is done, those that waited for it; all ranks call this."""
        first = self.world.on_rank0(self._first_tasks)
        run, world, cells = self.context, self.world, self.cells
        executor = choose_executor(choice, run, world, cells, len(first), self._on_curve, scores=scores, stack=stack)
        self.live.share_among(executor.processes)
        if any(needs_vectors(task.spec) for task in first if isinstance(task, Score | Train)):
            first, self._after_embedding = [Embed()], first
        try:
            if self.world.is_rank0:
                executor.submit(*first)
            for task, outcome in executor.results():
                following = self.world.on_rank0(partial(self._take, task, outcome))
                if self.world.is_rank0:
                    executor.submit(*following)
        except BaseException as error:
            cancelled = executor.cancel()
            with suppress(TriptychError):  # the first error is the one to know
                for task, outcome in cancelled.done:
                    self._take(task, outcome)
            if cancelled.stopped and isinstance(error, KeyboardInterrupt):
                raise Interrupted(cancelled.stopped) from None
            raise

    def _first_tasks(self) -> list[Task]:
        """All that waits for nothing: base cells, the search, trainings, and cells of adapters that are there."""
        base = [cell for cell in self.cells if cell.training is None and cell.name not in self.finished]
        tasks: list[Task] = [Score(cell) for cell in base]
        if self.wanted_search:
            tasks.append(Search(self.wanted_search))
        tasks += self._texts(None)
        for training in self.trainings:
            done = finished_adapter(training, self.folder, self.facts)
            tasks += [Train(training)] if done is None else self._trained(training, done)
        return tasks

    def _take(self, task: Task, outcome: Outcome) -> list[Task]:
        """Keep what a task gave; returns the tasks that waited for it."""
        match task, outcome:
            case Embed(), _:
                return self._after_embedding
            case Score(cell), FinishedCell() as scored:
                self.folder.save_cell(scored)
                self.finished[cell.name] = scored
                self.context.session.note_memory()
                self.live.scored(scored.record)
                self.trackers.cell(scored.record)
                return self._texts(cell.training)
            case Train(training), TuneSummary() as summary:
                return self._trained(training, summary)
            case Search(), (searched, winner):
                return self._won(searched, winner)
            case Write(cell), GenerationRecord() as written:
                self.written[cell.name] = written
        return []

    def _trained(self, training: TrainingSpec, summary: TuneSummary) -> list[Task]:
        """A training is done: its cells can be scored."""
        names = {"name": training.name, "k": training.k, "seed": training.seed}
        self.tuned[training] = summary.model_copy(update=names)
        self.live.update()
        tasks: list[Task] = []
        for cell in (cell for cell in self.cells if cell.training == training):
            if cell.name in self.finished:
                check_adapter_of_cell(self.finished[cell.name], summary, self.folder.cell_path(cell.name))
            else:
                tasks.append(Score(cell, summary.adapter_sha256))
        return tasks or self._texts(training)

    def _won(self, searched: SearchRecord, winner: CellSpec) -> list[Task]:
        """A search is done: its winner becomes a cell."""
        self.searched = searched
        if winner.name in {cell.name for cell in self.cells}:
            return self._texts(None)
        self.cells.insert(sum(cell.training is None for cell in self.cells), winner)
        self.finished |= finished_cells([winner], self.folder, self.facts)
        return self._texts(None) if winner.name in self.finished else [Score(winner)]

    def _texts(self, training: TrainingSpec | None) -> list[Task]:
        """What `generate` asks for: of the base model's cells (None) or an adapter's, once all are scored."""
        if (asked := self.config.generate) is None or (training is None and self.wanted_search and not self.searched):
            return []
        cells = [cell for cell in self.cells if cell.training == training]
        if any(cell.name not in self.finished for cell in cells):
            return []
        chosen = to_write(asked, cells, self.finished, self.config.metrics[0])
        return [Write(cell, self.finished[cell.name].record.adapter_sha256) for cell in chosen]

    def write_results(self) -> RunRecord:
        """Records and report."""
        self.live.close(done=True)
        self.folder.drop_replaced()
        texts = tuple(self.written[cell.name] for cell in self.cells if cell.name in self.written)
        tuned = {training: self.tuned[training] for training in self.trainings}
        if searched := self.searched:
            won = self.finished[searched.winner]
            tried = won.record.model_copy(update={"searched": len(searched.candidates)})
            self.finished[searched.winner] = won._replace(record=tried)
        record = write_results(self.context, self.cells, trainings=tuned, search=searched, generations=texts)
        self.trackers.finish(record)
        return record

    def _on_curve(self, training: TrainingSpec, points: Sequence[CurvePoint]) -> None:
        self.folder.drop_replaced()
        if training.first:
            write_curve(self.folder.path / "curve.csv", points)
        log = self.folder.tune_of(training) / "log.jsonl"
        self.trackers.points(points, log=log, training=None if training.first else training.name)
