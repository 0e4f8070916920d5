"""The experiment: every cell scored once, every training done once, one report; nothing is computed twice.

read and check everything  ─►  lock the folder  ─►  base cells  ─►  search on dev  ─►  its winner on test
    ─►  for each training: train  ─►  its adapter's cells          ─►  results, report
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from triptych.config.experiment import ExperimentConfig
from triptych.errors import TriptychError
from triptych.grid.cells import CellSpec, TrainingSpec, grid, trainings
from triptych.models import save_adapter
from triptych.progress import Reporter, Silent
from triptych.records import CurvePoint, RunRecord, TuneSummary
from triptych.records.disk import is_there
from triptych.records.manifest import Manifest
from triptych.records.process_lock import work_in
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.report import write_curve
from triptych.report.tables.overview import flat
from triptych.runner.folder import RunFolder
from triptych.runner.generation import to_write, write_cell
from triptych.runner.live import LiveReport
from triptych.runner.prepare import prepare
from triptych.runner.results import write_results
from triptych.runner.resume import check_adapter_of_cell, finished_adapter, finished_cells
from triptych.runner.run_log import RunLog
from triptych.runner.scoring import score_cell
from triptych.runner.search import search_on_dev
from triptych.runner.session import RunContext
from triptych.trackers.trackers import Trackers, check_trackers
from triptych.training import TuneRows, World, process_group, tune


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    fresh: bool = False,
    reporter: Reporter | None = None,
    runtime_choices: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
    scores: Path | None = None,
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

    Raises:
        RunBusyError: another process works in this folder.
        RunChangedError: the folder was begun with other settings.
        InputError: anything the user gave that can't be used; checked before any work, as far as possible.
        Interrupted: the user stopped a training; everything is saved.
    """
    with process_group(config.model.device) as world, ExitStack() as stack:
        log = RunLog((reporter or Silent()) if world.is_rank0 else Silent())
        folder = RunFolder(out)
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
            if is_there(out, Path.is_dir):  # else it is made, and locked, when the input was checked (`prepare`)
                enter()
            run = begin(enter=enter, fresh=fresh, runtime_choices=runtime_choices)
            log.begin(out)  # not sooner, since `fresh` sets aside what was written before
            run.live.begin(log)
            run.trackers.config(flat(config.model_dump(mode="json")))
            run.score_base_cells()
            run.search()
            run.write_texts(None)

        try:
            world.on_rank0(first_of_all)
            run = begun[0] if begun else begin()
            for training in run.trainings:
                run.train(training)
                world.on_rank0(partial(run.score_adapter_cells, training))
                world.on_rank0(partial(run.write_texts, training))
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
        self.config, self.folder, self.session = context.config, context.folder, context.session
        self.finished, self.facts = context.finished, context.facts
        needed = {cell.training for cell in cells}
        self.trainings = [training for training in trainings(self.config) if whole or training in needed]
        self.wanted_search = self.config.strategies.search if whole else None
        self.searches = self.wanted_search is not None
        self.tuned: dict[TrainingSpec, TuneSummary] = {}
        self.written: dict[str, GenerationRecord] = {}
        self.searched: SearchRecord | None = None
        used = self.config.report.trackers if world.is_rank0 else ()
        self.trackers = Trackers(used, self.folder.path, title=self.config.name, reporter=context.reporter)
        self.live = LiveReport(self)

    def score_base_cells(self) -> None:
        """Zero- and few-shot, on the model as it came."""
        for cell in self.cells:
            if cell.training is None and cell.name not in self.finished:
                self._score(cell)

    def search(self) -> None:
        """Prompt and demonstrations chosen on dev rows; the winner becomes a cell."""
        if self.wanted_search is None:
            return
        self.searched, winner = search_on_dev(self.context, self.wanted_search)
        if winner.name not in {cell.name for cell in self.cells}:
            first_trained = sum(cell.training is None for cell in self.cells)
            self.cells.insert(first_trained, winner)
        if winner.name not in self.finished:
            self.finished |= finished_cells([winner], self.folder, self.facts)
        if winner.name not in self.finished:
            self._score(winner)
        cell, tried = self.finished[winner.name], len(self.searched.candidates)
        self.finished[winner.name] = cell._replace(record=cell.record.model_copy(update={"searched": tried}))

    def train(self, training: TrainingSpec) -> None:
        """One training, unless it is done already."""
        work, final = self.folder.tune_of(training), self.folder.adapter_of(training)
        done = self.world.on_rank0(lambda: finished_adapter(training, self.folder, self.facts))
        if done is None:
            self.session.detach()
            loaded, scorer = self.session.load()
            facts = self.facts.adapter(training, loaded.info)
            result = tune(
                loaded,
                self._training_rows(training),
                self.config.tune.model_copy(update={"seed": training.seed}),
                work,
                prompt=training.prompt,
                facts=facts,
                made_from=self.facts.training(training),
                scorer=scorer,
                reporter=self.context.reporter,
                on_curve=partial(self._on_curve, training),
                world=self.world,
            )
            self.world.on_rank0(partial(save_adapter, result.adapter, final, facts=facts))
            self.session.set_attached(result.adapter, final)
            done = result.summary
        names = {"name": training.name, "k": training.k, "seed": training.seed}
        self.tuned[training] = done.model_copy(update=names)
        self.live.update()

    def score_adapter_cells(self, training: TrainingSpec) -> None:
        """The test rows with this training's adapter attached."""
        for cell in (cell for cell in self.cells if cell.training == training):
            if cell.name in self.finished:
                path = self.folder.cell_path(cell.name)
                check_adapter_of_cell(self.finished[cell.name], self.tuned[training], path)
            else:
                self._score(cell)

    def write_texts(self, training: TrainingSpec | None) -> None:
        """What `generate` asks for: the base model's cells (None), or those of one adapter."""
        if (asked := self.config.generate) is None:
            return
        for cell in to_write(asked, [cell for cell in self.cells if cell.training == training], self.finished):
            self.written[cell.name] = write_cell(self.context, cell)

    def write_results(self) -> RunRecord:
        """Records and report."""
        self.live.close(done=True)
        self.folder.drop_replaced()
        texts = tuple(self.written.values())
        record = write_results(self.context, self.cells, trainings=self.tuned, search=self.searched, generations=texts)
        self.trackers.finish(record)
        return record

    def _score(self, cell: CellSpec) -> None:
        adapter = self.context.attach(cell.training)
        if adapter and cell.training and adapter.sha256() != self.tuned[cell.training].adapter_sha256:
            raise TriptychError(f"the adapter for cell {cell.name} is not the one that its training made")
        title = f"{len(self.finished) + 1}/{len(self.cells)} {cell.name}"
        record = score_cell(self.context, cell, adapter, title).record
        self.live.scored(record)
        self.trackers.cell(record)

    def _on_curve(self, training: TrainingSpec, points: Sequence[CurvePoint]) -> None:
        self.folder.drop_replaced()
        if training.first:
            write_curve(self.folder.path / "curve.csv", points)
        log = self.folder.tune_of(training) / "log.jsonl"
        self.trackers.points(points, log=log, training=None if training.first else training.name)

    def _training_rows(self, training: TrainingSpec) -> TuneRows:
        rows = self.context.rows.training(training)
        if dropped := rows.dropped:
            self.context.reporter.info(
                f"{len(dropped)} training rows are longer than {dropped.limit} tokens and are left out: "
                f"{', '.join(dropped.ids[:8])}{' …' if len(dropped) > 8 else ''}"
            )
        return rows
