"""The experiment: every cell scored once, one training, one report; whatever is done is never done again.

read and check everything  ─►  lock the folder  ─►  base cells (adapter off)  ─►  training  ─►  adapter cells
                                                                                        └─►  results, report
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from triptych.data import Dataset, load_dataset
from triptych.errors import DataError, TriptychError
from triptych.experiment.cells import CellSpec, check_pool, demo_pool, grid, render_cell, templates_of
from triptych.experiment.config import ExperimentConfig
from triptych.experiment.folder import FinishedCell, RunFolder
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.cache import score_cache
from triptych.likelihood.score import Scorer, to_items
from triptych.models import (
    Adapter,
    LoadedModel,
    adapter_is_on,
    check_targets,
    identify,
    load_adapter,
    load_model,
    load_profile,
    save_adapter,
    switched,
)
from triptych.progress import Silent, Watcher
from triptych.prompts import Rendered, Template, render
from triptych.records import CellRecord, CurvePoint, ItemScore, RunRecord, TuneSummary
from triptych.records.lock import hold_to
from triptych.records.provenance import peak_memory, provenance
from triptych.records.store import read_json, write_items, write_json
from triptych.records.texts import write_rows, write_tokens
from triptych.report import build_report, comparisons, interval, summarise_few_shot, write_curve
from triptych.tune import TuneResult, TuneRows, read_summary, tune
from triptych.tune.curve import point_key, read_curve, read_rows

__all__ = ["run_experiment"]


def run_experiment(
    config: ExperimentConfig, out: Path, *, fresh: bool = False, watcher: Watcher | None = None
) -> RunRecord:
    """Run an experiment, or go on with one that was begun in this folder.

    Args:
        config: what to run.
        out: the run's folder.
        fresh: remove what an earlier run left there, first.
        watcher: told of progress.

    Raises:
        RunChangedError: the folder was begun with other settings.
        InputError: anything the user gave that can't be used; checked before any work, as far as it can be.
        Interrupted: stop was asked during training; everything is saved.
    """
    run = _Run(config, RunFolder(out), watcher or Silent())
    run.prepare(fresh)
    run.score_base_cells()
    run.train()
    run.score_adapter_cells()
    return run.write_results()


class _Run:
    def __init__(self, config: ExperimentConfig, folder: RunFolder, watcher: Watcher) -> None:
        self.config, self.folder, self.watcher = config, folder, watcher
        self.cells = grid(config)
        self.finished: dict[str, FinishedCell] = {}
        self.loaded: LoadedModel | None = None
        self.scorer: Scorer | None = None
        self.adapter: Adapter | None = None
        self.tuned: TuneSummary | None = None

    def prepare(self, fresh: bool) -> None:
        """Everything that can be wrong is found here, before the first forward pass."""
        config = self.config
        self.templates: dict[str, Template] = templates_of(config)
        self.data: Dataset = load_dataset(
            train=config.data.train,
            test=config.data.test,
            folder=config.data.dir,
            train_rows=config.data.train_rows,
            test_rows=config.data.test_rows,
            dev_rows=config.data.dev_rows,
            seed=config.data.seed,
            strict=config.data.strict,
        )
        check_pool(config, self.data)
        if config.tune.select == "dev" and config.strategies.qlora and not self.data.dev:
            raise DataError(
                "the best checkpoint is to be chosen on dev rows, and there are none",
                where="tune.select",
                found="data.dev_rows: 0",
                fix="set data.dev_rows to a few hundred, or use `select: last`",
            )
        for warning in self.data.warnings:
            self.watcher.say(f"warning: {warning}")
        identity = identify(config.model.spec())
        if fresh:
            self.folder.clear()
        elif self.folder.lock.exists() and not self.folder.holds_work():
            self.folder.lock.unlink()  # a run that failed to begin may begin with other settings
        held = hold_to(
            self.folder.lock,
            {
                "config": _decides(config),
                "data": {role: facts["sha256"] for role, facts in self.data.files.items()},
                "prompts": {name: template.sha256 for name, template in self.templates.items()},
                "model": identity,
            },
        )
        # dtype, threads and budget were found when the run began; going on, they are what they were
        self.chosen: dict[str, Any] = held.get("chosen", {})
        self.begun: dict[str, Any] = held.get("begun", {})
        for cell in self.cells:
            if (known := self.folder.load_cell(cell.name)) and len(known.items) == len(self.data.test):
                self.finished[cell.name] = known
        if self.finished:
            self.watcher.say(f"{len(self.finished)} of {len(self.cells)} cells are already scored")

    def score_base_cells(self) -> None:
        """Zero- and few-shot, on the model as it came."""
        for cell in self.cells:
            if cell.strategy != "qlora" and cell.name not in self.finished:
                self._score(cell)

    def train(self) -> None:
        """QLoRA, unless it is asked for and done already."""
        if self.config.strategies.qlora is None:
            return
        done = read_summary(self.folder.tune)
        # triptych.json is written last: a kill while the weights were copied leaves none
        if done is not None and (self.folder.adapter / "triptych.json").exists():
            self.tuned = done
            return
        prompt = self.config.strategies.qlora.prompt
        loaded, scorer = self._model()
        rows = self._tune_rows(prompt, loaded)
        result: TuneResult = tune(
            loaded,
            rows,
            self.config.tune,
            self.folder.tune,
            prompt=prompt,
            facts=self._adapter_facts(loaded, prompt),
            scorer=scorer,
            watcher=self.watcher,
            on_curve=lambda points: write_curve(self.folder.path / "curve.csv", points),
        )
        save_adapter(result.adapter, self.folder.adapter, facts=self._adapter_facts(loaded, prompt))
        self.adapter, self.tuned = result.adapter, result.summary

    def score_adapter_cells(self) -> None:
        """The test rows with the adapter on."""
        for cell in self.cells:
            if cell.strategy == "qlora" and cell.name not in self.finished:
                loaded, _ = self._model()
                if self.adapter is None:
                    self.adapter, _ = load_adapter(loaded, self.folder.adapter)
                self._score(cell)

    def write_results(self) -> RunRecord:
        """`results.json`, `items.parquet` and the report."""
        ordered = {cell.name: self.finished[cell.name] for cell in self.cells}
        records = tuple(cell.record for cell in ordered.values())
        items = {name: cell.items for name, cell in ordered.items()}
        record = RunRecord(
            name=self.config.name,
            cells=records,
            few_shot=summarise_few_shot(records),
            curve=_with_intervals(self.folder.tune / "curve.json") if self.tuned else (),
            comparisons=comparisons(records, items),
            tune=self.tuned,
            prompts={name: template.record() for name, template in self.templates.items()},
            warnings=tuple(self.data.warnings),
            provenance=self._provenance(),
        )
        write_items(self.folder.path / "items.parquet", items)
        self._write_texts(items)
        write_json(self.folder.path / "results.json", record)
        return build_report(self.folder.path)

    def _score(self, cell: CellSpec) -> None:
        loaded, scorer = self._model()
        began = time.perf_counter()
        rendered = render_cell(
            cell,
            self.data.test,
            demo_pool(self.data),
            self.templates,
            loaded.profile,
            max_tokens=self._max_tokens(loaded),
        )
        with_adapter = cell.strategy == "qlora"
        with switched(self.adapter, on=with_adapter):
            if adapter_is_on(loaded.model) != with_adapter:
                raise TriptychError(f"the adapter is {'off' if with_adapter else 'on'} for cell {cell.name}")
            title = f"{len(self.finished) + 1}/{len(self.cells)} {cell.name}"
            with self.watcher.phase(title, len(rendered)) as advance:
                nlls = scorer.score(rendered, advance)
        items = to_items(rendered, nlls)
        record = CellRecord(
            cell=cell.name,
            strategy=cell.strategy,
            prompt=cell.prompt,
            prompt_sha256=self.templates[cell.prompt].sha256,
            k=cell.k,
            seed=cell.seed,
            draw=cell.draw,
            adapter_sha256=self.adapter.sha256() if with_adapter and self.adapter else None,
            aggregate=aggregate(items),
            seconds=time.perf_counter() - began,
            rows_cached=scorer.rows_cached,
            rows_with_demos_dropped=sum(item.n_demos_dropped > 0 for item in items),
            demos_dropped=sum(item.n_demos_dropped for item in items),
        )
        finished = FinishedCell(record, items, [[round(x, 5) for x in nll.tokens.tolist()] for nll in nlls])
        self.folder.save_cell(finished)
        self.finished[cell.name] = finished
        self._note_memory()

    def _write_texts(self, items: dict[str, list[ItemScore]]) -> None:
        """What a report needs to show rows: their texts, and each scored token's text and NLL."""
        shown = {demo for rows in items.values() for item in rows for demo in item.demo_ids}
        demos = [row for row in self.data.train if row.id in shown]
        write_rows(self.folder.path / "rows.parquet", {"test": self.data.test, "demo": demos})
        profile = self.loaded.profile if self.loaded else load_profile(self.config.model.spec())
        pieces = {row.id: profile.pieces([*profile.encode(row.target()), profile.eos_id]) for row in self.data.test}
        nll = {cell.name: self.finished[cell.name].token_nll for cell in self.cells}
        write_tokens(self.folder.path / "tokens.parquet", pieces, nll)

    def _model(self) -> tuple[LoadedModel, Scorer]:
        """Loaded when the first thing needs it, and once."""
        if self.loaded is None or self.scorer is None:
            self.watcher.say(f"loading {self.config.model.name}")
            chosen = dict(self.chosen)
            budget = chosen.pop("budget_tokens", None)
            spec = dataclasses.replace(self.config.model.spec(), **chosen)
            self.loaded = load_model(spec)
            if self.config.strategies.qlora:
                check_targets(self.loaded, self.config.tune.lora())  # now, not after an hour of base cells
            cache = score_cache(self.loaded) if self.config.cache else None
            self.scorer = Scorer(self.loaded, budget_tokens=budget, cache=cache)
            if not self.chosen:
                self.chosen = {
                    "dtype": self.loaded.info["dtype"],
                    "threads": self.loaded.info["threads"] or None,
                    "hold": self.loaded.info["weights_held"] if self.config.model.quantize == "nf4" else "auto",
                    "budget_tokens": self.scorer.budget,
                }
                limit = self._max_tokens(self.loaded)
                self.begun = {**provenance(), "model": self._model_facts(), "max_tokens": limit}
                held = read_json(self.folder.lock)
                write_json(self.folder.lock, {**held, "chosen": self.chosen, "begun": self.begun})
        return self.loaded, self.scorer

    def _note_memory(self) -> int | None:
        """Keep the largest of all processes that worked on this run, killed ones included."""
        held = read_json(self.folder.lock)
        known, now = held.get("peak_memory_bytes"), peak_memory()
        if now is not None and now > 1.02 * (known or 0):
            write_json(self.folder.lock, {**held, "peak_memory_bytes": now})
            return now
        return known or now

    def _model_facts(self) -> dict[str, Any]:
        assert self.loaded is not None
        assert self.scorer is not None
        return {**self.loaded.info, "passes": "packed" if self.scorer.packed else "one row at a time"}

    def _max_tokens(self, loaded: LoadedModel) -> int:
        return min(self.config.max_tokens, loaded.max_tokens or self.config.max_tokens)

    def _tune_rows(self, prompt: str, loaded: LoadedModel) -> TuneRows:
        template, limit = self.templates[prompt], self._max_tokens(loaded)

        def rendered(rows: tuple[Any, ...], at_most: int) -> list[Rendered]:
            return [render(row, template, loaded.profile, max_tokens=at_most) for row in rows]

        train = [row for row in rendered(self.data.train, 1 << 30) if len(row.ids) <= self._longest(limit)]
        dropped = len(self.data.train) - len(train)
        if dropped:
            self.watcher.say(f"{dropped} training rows are longer than {self._longest(limit)} tokens and are left out")
        return TuneRows(train, rendered(self.data.test, limit), rendered(self.data.dev, limit), dropped)

    def _longest(self, limit: int) -> int:
        return min(limit, self.config.tune.max_tokens)

    def _adapter_facts(self, loaded: LoadedModel, prompt: str) -> dict[str, Any]:
        return {
            "base_model": self.config.model.name,
            "base_weights_sha256": loaded.weights_sha256,
            "quantize": self.config.model.quantize,
            "prompt": prompt,
            "prompt_sha256": self.templates[prompt].sha256,
        }

    def _provenance(self) -> dict[str, Any]:
        seeds = self.config.strategies.few_shot.seeds if self.config.strategies.few_shot else ()
        return {
            **self.begun,
            "peak_memory_bytes": self._note_memory(),
            "data": self.data.files,
            "seeds": {"demonstrations": list(seeds), "tune": self.config.tune.seed, "data": self.config.data.seed},
            "config": _plain(self.config),
        }


def _with_intervals(path: Path) -> tuple[CurvePoint, ...]:
    """The curve, each point with the interval of its mean where its rows were kept."""
    points = read_curve(path, up_to=1 << 60)
    bounds = {name: interval(rows) for name, rows in read_rows(path, points).items()}
    none = (None, None)
    return tuple(
        point.model_copy(update=dict(zip(("ci_low", "ci_high"), bounds.get(point_key(point), none), strict=True)))
        for point in points
    )


def _decides(config: ExperimentConfig) -> dict[str, Any]:
    """The settings that decide numbers. Files, model and prompts are held by content, so their places don't count."""
    plain = _plain(config)
    for section, keys in {"data": ("dir", "train", "test"), "model": ("name", "revision", "threads")}.items():
        for key in keys:
            del plain[section][key]
    del plain["name"], plain["prompts"], plain["cache"]
    return plain


def _plain(config: ExperimentConfig) -> dict[str, Any]:
    plain: dict[str, Any] = config.model_dump(mode="json")
    return plain
