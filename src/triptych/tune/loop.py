"""QLoRA training, from a loaded model to an adapter, through as many interruptions as it takes.

    state = last whole checkpoint, or the beginning
    until the last step:
        a point of the curve is due and missing?   evaluate, note the best, write the curve
        rows of the step ─► gradient ─► clip ─► AdamW
        a checkpoint is due, or stop was asked?    save

A point is always of the weights that a checkpoint at that step holds, so whatever is lost by a kill is computed again
from the same weights and comes out the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from triptych.errors import DataError, DivergedError, Interrupted, ScoringError
from triptych.likelihood.score import Scorer
from triptych.models import Adapter, LoadedModel, attach_adapter, save_adapter
from triptych.progress import Silent, Watcher
from triptych.prompts import Rendered
from triptych.records import CurvePoint, TuneSummary
from triptych.records.store import disk_errors, read_json, write_json, write_text
from triptych.tune.batches import rows_of_step
from triptych.tune.checkpoint import TrainState, latest_checkpoint, restore, save_checkpoint
from triptych.tune.config import TuneConfig, learning_rate
from triptych.tune.curve import Rows, Split, best_step, evaluate, point_key, read_curve, read_rows, write_curve
from triptych.tune.step import accumulate_gradient
from triptych.tune.stop import stop_requested

__all__ = ["TuneResult", "TuneRows", "tune"]

OnCurve = Callable[[Sequence[CurvePoint]], None]


@dataclass(frozen=True)
class TuneRows:
    """Rendered rows of a training."""

    train: Sequence[Rendered]
    test: Sequence[Rendered] = ()
    dev: Sequence[Rendered] = ()
    dropped: int = 0
    """Training rows left out because they are too long."""


@dataclass(frozen=True)
class TuneResult:
    """A finished training: the adapter in place and switched on, its curve, what was done."""

    adapter: Adapter
    curve: tuple[CurvePoint, ...]
    summary: TuneSummary


def tune(
    loaded: LoadedModel,
    rows: TuneRows,
    config: TuneConfig,
    folder: Path,
    *,
    prompt: str,
    facts: dict[str, Any] | None = None,
    scorer: Scorer | None = None,
    watcher: Watcher | None = None,
    on_curve: OnCurve | None = None,
) -> TuneResult:
    """Train an adapter, or go on with a training that was interrupted in this folder.

    Args:
        loaded: the base model, without an adapter.
        rows: what to train on, and what to score for the curve.
        config: hyper-parameters.
        folder: gets `checkpoints/`, `best/`, `curve.json`, `log.jsonl` and, at the end, `adapter/` (PEFT's format).
        prompt: name of the prompt the rows were rendered with.
        facts: stored beside the adapter (hashes of base and prompt).
        scorer: the scorer of the final table, so that curve and table can't differ.
        watcher: told of progress.
        on_curve: called with the whole curve after every point.

    Raises:
        DataError: no rows, or a split to select by that has none.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        Interrupted: stop was asked; everything is saved.
    """
    if not rows.train:
        raise DataError("there are no rows to train on", found=f"{rows.dropped} rows, all longer than max_tokens")
    if config.select != "last" and not getattr(rows, config.select):
        raise DataError(
            f"the best checkpoint is to be chosen on {config.select} rows, and there are none",
            where="tune.select",
            fix="set data.dev_rows, or use `select: last`",
        )
    training = _Training(loaded, rows, config, folder, scorer or Scorer(loaded), watcher or Silent(), on_curve)
    training.begin()
    with stop_requested() as asked:
        training.run(asked)
    return training.finish(prompt, facts or {})


class _Training:
    def __init__(
        self,
        loaded: LoadedModel,
        rows: TuneRows,
        config: TuneConfig,
        folder: Path,
        scorer: Scorer,
        watcher: Watcher,
        on_curve: OnCurve | None,
    ) -> None:
        self.loaded, self.rows, self.config, self.folder = loaded, rows, config, folder
        self.scorer, self.watcher, self.on_curve = scorer, watcher, on_curve
        self.total = config.total_steps(len(rows.train))
        self.eval_steps = set(config.eval_steps(self.total))
        self.state = TrainState()
        self.curve: list[CurvePoint] = []
        self.curve_rows: Rows = {}

    def begin(self) -> None:
        """A fresh adapter and optimizer, then the last checkpoint over them if there is one."""
        self.adapter = attach_adapter(self.loaded, self.config.lora(), seed=self.config.seed)
        torch.manual_seed(self.config.seed)  # dropout; its state is in the checkpoints
        self.optimizer = torch.optim.AdamW(
            self.adapter.parameters().values(),
            lr=self.config.lr,
            betas=self.config.betas,
            eps=self.config.eps,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        if found := latest_checkpoint(self.folder / "checkpoints"):
            path, self.state = found
            restore(path, self.adapter, self.optimizer)
            self.watcher.say(f"training goes on from step {self.state.step} of {self.total}")
        self.curve = read_curve(self.folder / "curve.json", up_to=self.state.step)
        self.curve_rows = read_rows(self.folder / "curve.json", self.curve)
        self._trim_log()

    def run(self, asked: Callable[[], bool]) -> None:
        """To the last step."""
        with self.watcher.phase("training", self.total, done=self.state.step, unit="steps") as advance:
            while True:
                if self.state.step in self.eval_steps:
                    self._evaluate()
                if self.state.step == self.total:
                    break
                self._step()
                advance(1)
                stopping = asked()
                if stopping or self.config.is_checkpoint(self.state.step, self.total):
                    self._save()
                if stopping:
                    raise Interrupted(
                        f"stopped after step {self.state.step} of {self.total}, which is saved.\n"
                        "  to go on: run the same command again"
                    )

    def _step(self) -> None:
        began = time.perf_counter()
        state, config = self.state, self.config
        indices = rows_of_step(state.step, len(self.rows.train), config.rows_per_step, config.seed)
        rows = [self.rows.train[i] for i in indices]
        lr = learning_rate(config, state.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        _set_dropout(self.adapter, on=True)
        result = accumulate_gradient(
            self.loaded,
            self.scorer.head,
            rows,
            max_rows=config.batch_size,
            max_tokens=config.tokens_per_pass,
            share_prefix=config.dropout == 0,
            packed=self.scorer.packed,
        )
        _set_dropout(self.adapter, on=False)
        bound = math.inf if config.max_grad_norm is None else config.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.adapter.parameters().values(), bound).item()
        if not math.isfinite(result.nll_nats) or not math.isfinite(norm):
            self._diverged(result.loss, norm, rows)
        self.optimizer.step()
        state.step += 1
        state.rows_seen += len(rows)
        state.n_tokens += result.n_tokens
        state.n_scored += result.n_scored
        state.nll_since_point += result.nll_nats
        state.scored_since_point += result.n_scored
        state.seconds += time.perf_counter() - began
        line = {
            "step": state.step,
            "loss": result.loss,
            "lr": lr,
            "grad_norm": norm,
            "n_tokens": result.n_tokens,
            "n_scored": result.n_scored,
            "seconds": round(state.seconds, 3),
        }
        path = self.folder / "log.jsonl"
        with disk_errors(path), path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _evaluate(self) -> None:
        """The points of this step that are still missing."""
        splits: list[Split] = ["test", "dev"]
        for split in splits:
            rows = getattr(self.rows, split)
            if split == "test" and self.config.eval_rows is not None:
                rows = rows[: self.config.eval_rows]
            if not rows or any(p.step == self.state.step and p.split == split for p in self.curve):
                continue
            with self.watcher.phase(f"curve: {split} at step {self.state.step}", len(rows)) as advance:
                epoch = self.state.rows_seen / len(self.rows.train)
                lr = learning_rate(self.config, max(0, self.state.step - 1), self.total)
                try:
                    point, ppl = evaluate(self.scorer, rows, split, self.state, epoch=epoch, lr=lr, advance=advance)
                except (ScoringError, OverflowError) as error:  # OverflowError: a perplexity beyond any float
                    if self.state.step == 0:
                        raise
                    raise DivergedError(
                        f"training diverged: after step {self.state.step} of {self.total} the {split} rows have no "
                        f"finite perplexity\n  found: {str(error).splitlines()[0]}\n{self._what_to_do()}"
                    ) from error
            if split == self.config.select and best_step([*self.curve, point], split) == point.step:
                self._keep_best()  # before the curve says so: a kill in between evaluates again, and saves again
            self.curve.append(point)
            self.curve_rows[point_key(point)] = ppl
            write_curve(self.folder / "curve.json", self.curve, self.curve_rows)
            if self.on_curve is not None:
                self.on_curve(self.curve)
        self.state.nll_since_point, self.state.scored_since_point = 0.0, 0

    def _keep_best(self) -> None:
        save_checkpoint(self.folder / "best", self.state, self.adapter, self.optimizer, keep=1)

    def _save(self) -> None:
        save_checkpoint(self.folder / "checkpoints", self.state, self.adapter, self.optimizer, keep=self.config.keep)

    def finish(self, prompt: str, facts: dict[str, Any]) -> TuneResult:
        """Choose the adapter, write it, and say what was done."""
        selected = self.total
        if self.config.select != "last":
            selected = best_step(self.curve, self.config.select)
            found = latest_checkpoint(self.folder / "best")
            if found is None or found[1].step != selected:
                raise DataError(
                    "the best checkpoint is missing",
                    where=str(self.folder / "best"),
                    expected=f"step {selected}",
                    fix="train again with --fresh",
                )
            restore(found[0], self.adapter, self.optimizer)
        save_adapter(self.adapter, self.folder / "adapter", facts={**facts, "prompt": prompt, "step": selected})
        summary = TuneSummary(
            prompt=prompt,
            steps=self.total,
            epochs=self.state.rows_seen / len(self.rows.train),
            rows=len(self.rows.train),
            rows_dropped=self.rows.dropped,
            scored_tokens=self.state.n_scored,
            tokens=self.state.n_tokens,
            trainable_parameters=sum(p.numel() for p in self.adapter.parameters().values()),
            target_modules=self.adapter.target_modules,
            selected_step=selected,
            selected_by=self.config.select,
            adapter_sha256=self.adapter.sha256(),
            seconds=self.state.seconds,
            settings=self.config.model_dump(mode="json"),
        )
        write_json(self.folder / "summary.json", summary)
        return TuneResult(self.adapter, tuple(self.curve), summary)

    def _trim_log(self) -> None:
        """Forget logged steps beyond the checkpoint: they are done again."""
        path = self.folder / "log.jsonl"
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > self.state.step:
                    break
            except (ValueError, KeyError):  # the line a kill cut off
                break
            kept.append(line + "\n")
        write_text(path, "".join(kept))

    def _diverged(self, loss: float, norm: float, rows: Sequence[Rendered]) -> None:
        names = ", ".join(row.row_id for row in rows[:8]) + (" …" if len(rows) > 8 else "")
        raise DivergedError(
            f"training diverged at step {self.state.step + 1} of {self.total}: loss {loss}, gradient norm {norm}\n"
            f"  rows of the step: {names}\n{self._what_to_do()}"
        )

    def _what_to_do(self) -> str:
        kept = latest_checkpoint(self.folder / "checkpoints")
        return (
            f"  kept: {f'checkpoint of step {kept[1].step}' if kept else 'nothing, no checkpoint was due yet'}\n"
            f"  to mend it: lower lr (now {self.config.lr:g}) or warm up longer (now {self.config.warmup:g}), "
            "and start over with --fresh or in another folder"
        )


def read_summary(folder: Path) -> TuneSummary | None:
    """What a finished training left, or None."""
    path = folder / "summary.json"
    return TuneSummary.model_validate(read_json(path)) if path.exists() else None


def _set_dropout(adapter: Adapter, *, on: bool) -> None:
    """The base model stays in evaluation mode; only the adapter's dropout is switched."""
    for name, module in adapter.model.named_modules():
        if ".lora_dropout." in name:
            module.train(on)
