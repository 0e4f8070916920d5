"""QLoRA training, from a loaded model to an adapter, through as many interruptions as it takes.

    state = last whole checkpoint, or the beginning
    until the last step:
        a point of the curve is due and missing?   evaluate, save the best, write the curve; out of patience: stop
        rows of the step ─► gradient ─► clip ─► AdamW
        a checkpoint is due, or stop was asked?    save

A point is always of the weights that a checkpoint at that step holds, so what a kill loses is computed again from the
same weights and comes out the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from triptych.config.tune import TuneConfig
from triptych.errors import Interrupted
from triptych.likelihood.cache import versions
from triptych.likelihood.checks import check_rows
from triptych.likelihood.score import Scorer
from triptych.models import LoadedModel, LoraSettings, attach_adapter
from triptych.models.adapters import set_dropout
from triptych.models.device import trim_malloc
from triptych.progress import Reporter, Silent
from triptych.prompts import Rendered
from triptych.records import TuneSummary, Versions
from triptych.records.identity import MadeFrom, joined_versions, version_changes
from triptych.training.checkpoint import TrainState, latest_checkpoint, restore, save_checkpoint, versions_of
from triptych.training.curve import OnCurve, Points
from triptych.training.log import append_line, diverged_step, trim_log
from triptych.training.optimizer import adamw, learning_rate, set_rate
from triptych.training.outcome import TuneResult, best_checkpoint, write_outcome
from triptych.training.parallel import World, share_of
from triptych.training.recompute import Chosen, choose, recomputed
from triptych.training.rows import TuneRows, check_trainable
from triptych.training.step import accumulate_gradient, rows_of_step
from triptych.training.stop import stop_requested

_TRIM_EVERY = 8  # steps; each costs about a tenth of one


def tune(
    loaded: LoadedModel,
    rows: TuneRows,
    config: TuneConfig,
    folder: Path,
    *,
    prompt: str,
    facts: dict[str, Any] | None = None,
    made_from: MadeFrom | None = None,
    scorer: Scorer | None = None,
    reporter: Reporter | None = None,
    on_curve: OnCurve | None = None,
    world: World | None = None,
) -> TuneResult:
    """Train an adapter, or continue a training that was interrupted in this folder.

    Args:
        loaded: the base model, without an adapter.
        rows: what to train on, and what to score for the curve.
        config: hyper-parameters.
        folder: gets `checkpoints/`, `best/`, `curve.json`, `log.jsonl` and, at the end, `adapter/` (PEFT's format).
        prompt: name of the prompt the rows were rendered with.
        facts: stored beside the adapter (hashes of base and prompt).
        made_from: what decides the training; stored in each file that it writes, and compared on resuming.
        scorer: the scorer of the final table, so that curve and table can't differ.
        reporter: shows progress.
        on_curve: called with the whole curve after every point, on the first rank.
        world: the processes that share the work (`parallel.process_group`); None for this one alone. All call this
            with the same arguments and get the same result.

    Raises:
        DataError: no rows, one without a scored token, or a split to select by that has none.
        ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
        RunChangedError: the folder holds a training that was made from something else.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        Interrupted: stop was asked; everything is saved.
    """
    check_trainable(rows, config)
    check_rows(loaded, [*rows.train, *rows.test, *rows.dev])
    world = world or World()
    reporter = (reporter or Silent()) if world.is_rank0 else Silent()
    scorer = scorer or Scorer(loaded)
    points = Points(rows, config, folder / "curve.json", scorer, reporter, on_curve, made_from)
    training = _Training(loaded, rows, config, folder, scorer, reporter, points, world, made_from)
    training.begin()
    with stop_requested() as asked:
        training.run(asked)
    return training.finish(prompt, facts or {})


@dataclass
class _Training:
    loaded: LoadedModel
    rows: TuneRows
    config: TuneConfig
    folder: Path
    scorer: Scorer
    reporter: Reporter
    points: Points
    world: World
    made_from: MadeFrom | None

    def __post_init__(self) -> None:
        self.total = self.config.total_steps(len(self.rows.train))
        self.eval_steps = set(self.config.eval_steps(self.total))
        self.state, self.versions = TrainState(), versions()
        self.stopped_early = False

    def begin(self) -> None:
        """A fresh adapter and optimizer, then the last checkpoint over them if there is one."""
        self.adapter = attach_adapter(self.loaded, LoraSettings.of(self.config), seed=self.config.seed)
        torch.manual_seed(self.config.seed)  # dropout; its state is in the checkpoints
        self.optimizer = adamw(self.adapter, self.config)
        self.chosen: Chosen = self.world.broadcast(
            choose(self.loaded, self.rows.train, self.config, self.adapter.target_modules, self.world.size)
        )
        if self.chosen.note:
            self.reporter.info(self.chosen.note)
        if saved := self.world.on_rank0(lambda: latest_checkpoint(self.folder / "checkpoints", self.made_from)):
            path, self.state = saved
            restore(path, self.adapter, self.optimizer)
            self.reporter.info(f"training continues from step {self.state.step} of {self.total}")
            self._add_versions(versions_of(path))
        if self.world.is_rank0:
            self.points.read(up_to=self.state.step)
            trim_log(self.folder / "log.jsonl", up_to=self.state.step)

    def _add_versions(self, before: dict[str, str]) -> None:
        """Keep the versions of earlier processes beside this one's, and warn where they differ."""
        if self.state.step == self.total:  # nothing is left to compute
            self.versions = before or self.versions
            return
        if changed := version_changes(before, self.versions):
            self.reporter.warn(f"this training was begun with other versions: {', '.join(changed)}")
        self.versions = joined_versions([before, self.versions])

    def run(self, asked: Callable[[], bool]) -> None:
        """To the last step."""
        with self.reporter.task("training", self.total, done=self.state.step, unit="steps") as advance:
            while True:
                if self.state.step in self.eval_steps:
                    patient = self.world.on_rank0(self._evaluate)
                    self.stopped_early = not patient and self.state.step < self.total
                    self.state.nll_since_point, self.state.scored_since_point = 0.0, 0
                if self.state.step == self.total or self.stopped_early:
                    break
                self._step()
                advance(1)
                stopping = self.world.any(asked())
                if stopping or self.config.is_checkpoint(self.state.step, self.total):
                    self.world.on_rank0(lambda: self._save("checkpoints", keep=self.config.keep))
                if stopping:
                    raise Interrupted(
                        f"stopped after step {self.state.step} of {self.total}, which is saved.\n"
                        "  to continue: run the same command again"
                    )
        if self.stopped_early:
            self.reporter.info(
                f"stopped early after step {self.state.step} of {self.total}: "
                f"{self.config.patience} points in a row no better on dev"
            )

    def _step(self) -> None:
        began = time.perf_counter()
        state, config = self.state, self.config
        indices = rows_of_step(state.step, len(self.rows.train), config.rows_per_step, config.seed)
        rows = [self.rows.train[i] for i in indices]
        n_scored, n_tokens = sum(row.n_scored for row in rows), sum(len(row.ids) for row in rows)
        lr = learning_rate(config, state.step, self.total)
        set_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        nll = self._gradient(rows, n_scored)
        bound = math.inf if config.max_grad_norm is None else config.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.adapter.parameters().values(), bound).item()
        if not math.isfinite(nll) or not math.isfinite(norm):
            raise diverged_step(self.folder, config, state.step, self.total, nll / n_scored, norm, rows)
        self.optimizer.step()
        if self.loaded.device.type == "cpu" and state.step % _TRIM_EVERY == 0:
            trim_malloc()
        state.step += 1
        state.rows_seen += len(rows)
        state.n_tokens += n_tokens
        state.n_scored += n_scored
        state.nll_since_point += nll
        state.scored_since_point += n_scored
        state.seconds += time.perf_counter() - began
        if self.world.is_rank0:
            line = {"loss": nll / n_scored, "lr": lr, "grad_norm": norm, "n_tokens": n_tokens, "n_scored": n_scored}
            append_line(self.folder / "log.jsonl", {"step": state.step, **line, "seconds": round(state.seconds, 3)})

    def _gradient(self, rows: Sequence[Rendered], n_scored: int) -> float:
        """The step's gradient, summed over the ranks, and its NLL."""
        config, world = self.config, self.world
        if world.size > 1 and config.dropout:
            # each rank draws its own, and a checkpoint holds but one state: drawn from step and rank instead
            torch.manual_seed(world.seed("dropout", config.seed, self.state.step))
        set_dropout(self.adapter, on=True)
        with recomputed(self.loaded.model, on=self.chosen.recompute, random=config.dropout > 0):
            nll = accumulate_gradient(
                self.loaded,
                self.scorer.head,
                share_of(rows, world) if world.size > 1 else rows,
                max_rows=config.batch_size,
                max_tokens=config.tokens_per_pass,
                n_scored=n_scored,
                share_prefix=config.dropout == 0,
                packed=self.scorer.packed,
            )
        set_dropout(self.adapter, on=False)
        world.sum_gradients(self.adapter.parameters().values())
        return world.sum(nll)

    def _evaluate(self) -> bool:
        lr = learning_rate(self.config, max(0, self.state.step - 1), self.total)
        return self.points.evaluate(self.state, lr=lr, total=self.total, keep_best=lambda: self._save("best", keep=1))

    def _save(self, name: str, *, keep: int) -> None:
        at, made_from, versions = self.folder / name, self.made_from, self.versions
        save_checkpoint(at, self.state, self.adapter, self.optimizer, keep=keep, made_from=made_from, versions=versions)

    def finish(self, prompt: str, facts: dict[str, Any]) -> TuneResult:
        """Choose the adapter, write it, and sum up what was done."""
        curve = tuple(self.world.broadcast(self.points.curve))
        selected = self.state.step
        if self.config.select != "last":
            best, selected = best_checkpoint(self.folder, curve, self.config.select, self.made_from)
            restore(best, self.adapter, self.optimizer)
        beside = (self.adapter, self.rows.dropped, facts, self.made_from)
        summary = self.world.on_rank0(lambda: write_outcome(self.folder, self._summary(prompt, selected), *beside))
        return TuneResult(self.adapter, curve, summary)

    def _summary(self, prompt: str, selected: int) -> TuneSummary:
        state, rows = self.state, self.rows
        return TuneSummary(
            prompt=prompt,
            steps=state.step,
            epochs=state.rows_seen / len(rows.train),
            rows=len(rows.train),
            rows_dropped=len(rows.dropped),
            rows_dropped_ids=rows.dropped.first_ids,
            scored_tokens=state.n_scored,
            tokens=state.n_tokens,
            trainable_parameters=sum(p.numel() for p in self.adapter.parameters().values()),
            target_modules=self.adapter.target_modules,
            selected_step=selected,
            selected_by=self.config.select,
            stopped_early=self.stopped_early,
            adapter_sha256=self.adapter.sha256(),
            seconds=state.seconds,
            settings=self.config.model_dump(mode="json"),
            chosen={**self.chosen.facts, "ranks": self.world.size},
            identity=self.made_from.sha256 if self.made_from else None,
            versions=Versions(**self.versions),
        )
