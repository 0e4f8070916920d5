"""The experiment: every cell scored once, every training done once, one report; whatever is done is never done again.

read and check everything  ─►  lock the folder  ─►  base cells  ─►  search on dev  ─►  its winner on test
    ─►  for each training: train  ─►  its adapter's cells          ─►  results, report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from triptych.checks.rows import begin
from triptych.config.experiment import ExperimentConfig
from triptych.data import Row
from triptych.errors import TriptychError
from triptych.grid.cells import CellSpec, TrainingSpec, grid, trainings
from triptych.grid.file_views import view_cell
from triptych.grid.rendering import BY_VECTORS, render_cell, render_training
from triptych.grid.views import Ceiling
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.cache import versions
from triptych.likelihood.score import to_items
from triptych.models import Adapter, adapter_is_on, load_profile, save_adapter, switched
from triptych.progress import Silent, Watcher
from triptych.prompts import Rendered
from triptych.records import CellRecord, CurvePoint, RunRecord, TuneSummary, Versions
from triptych.records.manifest import Manifest
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.records.work_in import work_in
from triptych.report import write_curve
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.generation import to_write, write_cell
from triptych.runner.prepare import prepare
from triptych.runner.results import plain, write_results
from triptych.runner.resume import check_adapter_of_cell, finished_adapter, finished_cells
from triptych.runner.run_log import RunLog
from triptych.runner.search import search_on_dev
from triptych.trackers.trackers import Trackers, check_trackers
from triptych.training import TuneRows, World, joined, select_rows, tune

__all__ = ["run_experiment"]


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    fresh: bool = False,
    watcher: Watcher | None = None,
    chosen: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
    scores: Path | None = None,
) -> RunRecord:
    """Run an experiment, or go on with one that was begun in this folder.

    Under `torchrun` the ranks share the trainings; rank 0 does the rest, and the others wait for it.

    Args:
        config: what to run.
        out: the run's folder.
        fresh: remove what an earlier run left there, first.
        watcher: told of progress.
        chosen: dtype, threads, way of holding weights and token budget of another run, instead of finding them.
        only: names of cells; nothing is computed that these don't need. None for all.
        scores: file of the scores that are known, instead of the user's cache (where `cache` allows one).

    Raises:
        RunBusyError: another process works in this folder.
        RunChangedError: the folder was begun with other settings.
        InputError: anything the user gave that can't be used; checked before any work, as far as it can be.
        Interrupted: stop was asked during training; everything is saved.
    """
    with joined(config.model.device) as world, ExitStack() as stack:
        log = RunLog((watcher or Silent()) if world.is_first else Silent())
        run = _Run(config, RunFolder(out), log, world, only)

        def enter() -> Manifest:
            return stack.enter_context(work_in(out))

        def first_of_all() -> None:
            if out.is_dir():  # else it is made, and locked, when the input was checked (`prepare`)
                enter()
            run.prepare(enter=enter, fresh=fresh, chosen=chosen, scores=scores)
            run.score_base_cells()
            run.search()
            run.write_texts(None)

        try:
            world.on_first(first_of_all)
            if not world.is_first:
                run.prepare(enter=None, fresh=False, chosen=None, scores=scores)
            for training in run.trainings:
                run.train(training)
                world.on_first(partial(run.score_adapter_cells, training))
                world.on_first(partial(run.write_texts, training))
            record = world.on_first(run.write_results)
        except BaseException as error:
            log.ended(error)
            raise
        finally:
            run.close()
            if world.is_first:
                run.folder.give_up_replacing()
        log.ended()
        return record


class _Run:
    def __init__(
        self,
        config: ExperimentConfig,
        folder: RunFolder,
        log: RunLog,
        world: World,
        only: Collection[str] | None,
    ) -> None:
        self.config, self.folder, self.log, self.world = config, folder, log, world
        self.watcher: Watcher = log
        self.cells = [cell for cell in grid(config) if only is None or cell.name in only]
        self.trainings = [
            training
            for training in trainings(config)
            if only is None or any(cell.training == training for cell in self.cells)
        ]
        self.searching = config.strategies.search is not None and only is None
        self.tuned: dict[TrainingSpec, TuneSummary] = {}
        self.written: dict[str, GenerationRecord] = {}
        self.searched: SearchRecord | None = None
        self.trackers = Trackers((), folder.path, title=config.name, watcher=log)

    def close(self) -> None:
        """Let the trackers send what is left; after an interruption too, but not for long."""
        self.trackers.close(patience=10)

    def prepare(
        self,
        *,
        enter: Callable[[], Manifest] | None,
        fresh: bool,
        chosen: Mapping[str, Any] | None,
        scores: Path | None,
    ) -> None:
        """Everything that can be wrong is found here, before the first forward pass."""
        check_trackers(self.config.report.trackers)
        ready = prepare(
            self.config,
            self.cells,
            self.folder,
            self.watcher,
            enter=enter,
            fresh=fresh,
            chosen=chosen,
            scores=scores,
        )
        self.data, self.templates, self.finished = ready.data, ready.templates, ready.finished
        self.session, self.demonstrations, self.facts = ready.session, ready.demonstrations, ready.facts
        if self.world.is_first:  # not sooner: `fresh` has set aside what was sent before
            self.log.begin(self.folder.path)
            self.trackers = Trackers(
                self.config.report.trackers, self.folder.path, title=self.config.name, watcher=self.watcher
            )
            self.trackers.config(plain(self.config))

    def score_base_cells(self) -> None:
        """Zero- and few-shot, on the model as it came."""
        for cell in self.cells:
            if cell.training is None and cell.name not in self.finished:
                self._score(cell, None)

    def search(self) -> None:
        """Prompt and demonstrations chosen on dev rows; the winner becomes a cell."""
        asked = self.config.strategies.search
        if asked is None or not self.searching:
            return
        self.searched, winner = search_on_dev(
            asked,
            self.data.dev,
            self.session,
            self.demonstrations,
            self.templates,
            self.folder.path / "search.json",
            self.watcher,
            self.facts,
        )
        if winner.name not in {cell.name for cell in self.cells}:
            first_trained = sum(cell.training is None for cell in self.cells)
            self.cells.insert(first_trained, winner)
        if winner.name not in self.finished:
            self.finished |= finished_cells([winner], self.folder, self.facts, self.data)
        if winner.name not in self.finished:
            self._score(winner, None)
        self._mark_searched(winner.name, len(self.searched.candidates))

    def _mark_searched(self, name: str, tried: int) -> None:
        cell = self.finished[name]
        self.finished[name] = cell._replace(record=cell.record.model_copy(update={"searched": tried}))

    def train(self, training: TrainingSpec) -> None:
        """One training, unless it is done already."""
        work, final = self.folder.tune_of(training), self.folder.adapter_of(training)

        done = self.world.on_first(lambda: finished_adapter(training, self.folder, self.facts))
        if done is None:
            self.session.take_off()
            loaded, scorer = self.session.model()
            facts = self._adapter_facts(training)
            result = tune(
                loaded,
                self._tune_rows(training),
                self.config.tune.model_copy(update={"seed": training.seed}),
                work,
                prompt=training.prompt,
                facts=facts,
                made_from=self.facts.training(training),
                scorer=scorer,
                watcher=self.watcher,
                on_curve=partial(self._on_curve, training),
                world=self.world,
            )
            self.world.on_first(partial(save_adapter, result.adapter, final, facts=facts))
            self.session.worn(result.adapter, final)
            done = result.summary
        told = {"name": training.name, "k": training.k, "seed": training.seed}
        self.tuned[training] = done.model_copy(update=told)

    def _on_curve(self, training: TrainingSpec, points: Sequence[CurvePoint]) -> None:
        self.folder.drop_replaced()
        if training.first:
            write_curve(self.folder.path / "curve.csv", points)
        log = self.folder.tune_of(training) / "log.jsonl"
        self.trackers.points(points, log=log, training=None if training.first else training.name)

    def score_adapter_cells(self, training: TrainingSpec) -> None:
        """The test rows with this training's adapter on."""
        for cell in (cell for cell in self.cells if cell.training == training):
            if cell.name in self.finished:
                path = self.folder.cell_path(cell.name)
                check_adapter_of_cell(self.finished[cell.name], self.tuned[training], path)
            else:
                self._score(cell, self.session.wear(self.folder.adapter_of(training)))

    def write_texts(self, training: TrainingSpec | None) -> None:
        """What `generate` asks for: the base model's cells (None), or those of one adapter."""
        asked = self.config.generate
        if asked is None:
            return
        rows = self.data.test[: asked.rows]
        for cell in to_write(asked, [cell for cell in self.cells if cell.training == training], self.finished):
            self.written[cell.name] = write_cell(
                cell,
                rows,
                self.session,
                self.facts.cell(cell),
                self.finished[cell.name].record.adapter_sha256,
                lambda: self.session.wear(self.folder.adapter_of(training)) if training else None,
                self.demonstrations,
                self.templates,
                asked,
                self.folder,
                self.watcher,
            )

    def write_results(self) -> RunRecord:
        """Records and report."""
        self.folder.drop_replaced()
        profile = self.session.loaded.profile if self.session.loaded else load_profile(self.config.model)
        record = write_results(
            self.folder,
            self.config,
            {cell.name: self.finished[cell.name] for cell in self.cells},
            data=self.data,
            templates=self.templates,
            profile=profile,
            trainings=self.tuned,
            search=self.searched,
            generations=tuple(self.written.values()),
            provenance={**self.session.begun, "peak_memory_bytes": self.session.note_memory()},
        )
        self.trackers.finish(record)
        return record

    def _score(self, cell: CellSpec, adapter: Adapter | None) -> None:
        loaded, scorer = self.session.model()
        began = time.perf_counter()
        limit = self.session.max_tokens()
        rendered = render_cell(
            cell, self.data.test, self.demonstrations, self.templates, loaded.profile, max_tokens=limit
        )
        if cell.select in BY_VECTORS:  # the checks before the first pass could not see these
            ceiling = Ceiling.of("max_tokens", self.config.max_tokens, loaded.max_tokens)
            begin(view_cell(cell, rendered.rows, self.data, self.templates, loaded.profile, ceiling), self.watcher)
        with switched(adapter, on=adapter is not None):
            if adapter_is_on(loaded.model) != (adapter is not None):
                raise TriptychError(f"the adapter is {'off' if adapter else 'on'} for cell {cell.name}")
            if adapter and cell.training and adapter.sha256() != self.tuned[cell.training].adapter_sha256:
                raise TriptychError(f"the adapter for cell {cell.name} is not the one that its training made")
            title = f"{len(self.finished) + 1}/{len(self.cells)} {cell.name}"
            with self.watcher.phase(title, len(rendered.rows)) as advance:
                nlls = scorer.score(rendered.rows, advance)
        items = to_items(rendered.rows, nlls)
        trained, made_from = cell.training, self.facts.cell(cell)
        record = CellRecord(
            cell=cell.name,
            strategy=cell.strategy,
            prompt=cell.prompt,
            prompt_sha256=self.templates[cell.prompt].sha256,
            k=cell.k,
            seed=cell.seed,
            draw=cell.draw,
            select=cell.select,
            order=cell.order,
            demo_similarity_mean=rendered.mean_similarity(),
            demo_similarity_max=rendered.closest(),
            training=trained.name if trained else None,
            trained_prompt=trained.prompt if trained else None,
            trained_k=trained.k if trained else 0,
            train_seed=trained.seed if trained else None,
            adapter_sha256=adapter.sha256() if adapter else None,
            aggregate=aggregate(items),
            seconds=time.perf_counter() - began,
            rows_cached=scorer.rows_cached,
            rows_with_demos_dropped=sum(item.n_demos_dropped > 0 for item in items),
            demos_dropped=sum(item.n_demos_dropped for item in items),
            identity=made_from.sha256,
            versions=Versions(**versions()),
        )
        tokens = [[round(x, 5) for x in nll.tokens.tolist()] for nll in nlls]
        finished = FinishedCell(record, items, tokens, made_from.record()["made_from"])
        self.folder.save_cell(finished)
        self.finished[cell.name] = finished
        self.trackers.cell(record)
        self.session.note_memory()

    def _tune_rows(self, training: TrainingSpec) -> TuneRows:
        loaded, _ = self.session.model()
        limit = self.session.max_tokens()
        longest = min(limit, self.config.tune.max_tokens)
        template = self.templates[training.prompt]

        def rendered(rows: Sequence[Row], at_most: int) -> list[Rendered]:
            return render_training(training, rows, self.demonstrations, template, loaded.profile, max_tokens=at_most)

        train, dropped = select_rows(rendered(self.data.train, 1 << 30), longest, self.config.tune.long_rows)
        if dropped:
            self.watcher.say(
                f"{len(dropped)} training rows are longer than {longest} tokens and are left out: "
                f"{', '.join(dropped.ids[:8])}{' …' if len(dropped) > 8 else ''}"
            )
        return TuneRows(train, rendered(self.data.test, limit), rendered(self.data.dev, limit), dropped)

    def _adapter_facts(self, training: TrainingSpec) -> dict[str, Any]:
        loaded, _ = self.session.model()
        return {
            "base_model": self.config.model.name,
            "base_weights_sha256": loaded.weights_sha256,
            "base_config_sha256": loaded.info["config_sha256"],
            "quantize": self.config.model.quantize,
            "prompt": training.prompt,
            "prompt_sha256": self.templates[training.prompt].sha256,
            "trained_k": training.k,
            **self.facts.training(training).record(),
        }
