"""What the steps of a run work with: its model, loaded once, when the first step needs it; its scorer; the adapter that
is attached now; and, in `RunContext`, its rows, folder and finished cells.

What was chosen when the run began (dtype, threads, how weights are stored, the token budget) is written to the lock; a
process that resumes the run uses the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.experiment import ExperimentConfig
from triptych.data import Row
from triptych.grid.cells import TrainingSpec
from triptych.grid.renderer import ContextLimit
from triptych.grid.rows import ExperimentRows
from triptych.likelihood.cache import score_cache
from triptych.likelihood.score import Scorer
from triptych.models import (
    Adapter,
    LoadedModel,
    LoraSettings,
    adapter_enabled,
    check_targets,
    detach_adapter,
    load_adapter,
    load_model,
)
from triptych.progress import Reporter
from triptych.prompts.ranking import Vectors
from triptych.records.manifest import claim
from triptych.records.provenance import peak_memory, provenance
from triptych.records.store import read_json, write_twice
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.made_from import RunFacts


class Session:
    """A run's model, and what the lock says about it."""

    def __init__(
        self,
        config: ExperimentConfig,
        folder: RunFolder,
        reporter: Reporter,
        lock: dict[str, Any],
        *,
        scores: Path | None = None,
        writes: bool = True,
        locked: bool = True,
    ) -> None:
        self.config, self.folder, self.reporter, self._writes, self._scores = config, folder, reporter, writes, scores
        self._locked = locked
        """Whether the folder's lock is this run's already; not while an earlier run's files are still there."""
        self.runtime_choices: dict[str, Any] = lock.get("chosen", {})
        self.begun: dict[str, Any] = lock.get("begun", {})
        self._identity: dict[str, Any] = lock.get("model", {})
        self.loaded: LoadedModel | None = None
        self.scorer: Scorer | None = None
        self.adapter: Adapter | None = None
        self._adapter_of: Path | None = None

    def load(self) -> tuple[LoadedModel, Scorer]:
        """The model and its scorer, loaded the first time that one of them is needed."""
        if self.loaded is None or self.scorer is None:
            self.reporter.info(f"loading {self.config.model.name}")
            choices = dict(self.runtime_choices)
            budget, _ = choices.pop("budget_tokens", None), choices.pop("processes", None)
            self.loaded = load_model(self.config.model.model_copy(update=choices))
            self.loaded.check_identity(self._identity)
            if self.config.strategies.qlora:
                check_targets(self.loaded, LoraSettings.of(self.config.tune))  # now, not after an hour of base cells
            if self._scores is not None:
                claim(*(self._scores.with_name(f"{self._scores.name}{part}") for part in ("", "-wal", "-shm")))
            cache = score_cache(self.loaded, self._scores) if self.config.cache else None
            self.scorer = Scorer(self.loaded, budget_tokens=budget, cache=cache)
            if not self.begun:
                self._begin(self.loaded, self.scorer)
        return self.loaded, self.scorer

    def compute(self) -> dict[str, Any]:
        """How numbers are computed: of the loaded model, or else of the process that began the run."""
        info = self.loaded.info if self.loaded is not None else self.begun.get("model", {})
        return {name: info.get(name) for name in ("dtype", "weights_held")}

    def attach(self, folder: Path) -> Adapter:
        """Attach the adapter of this folder, and enable it; another one is detached first."""
        if self.adapter is None or self._adapter_of != folder:
            self.detach()
            loaded, _ = self.load()
            self.adapter, _ = load_adapter(loaded, folder)
            self._adapter_of = folder
        return self.adapter

    def set_attached(self, adapter: Adapter, folder: Path) -> None:
        """Record that a training left this adapter attached, and saved it to this folder."""
        self.adapter, self._adapter_of = adapter, folder

    def detach(self) -> None:
        """Leave the base model without any adapter."""
        if self.adapter is not None:
            loaded, _ = self.load()
            detach_adapter(loaded, self.adapter)
            self.adapter, self._adapter_of = None, None

    def vectors(self, rows: Sequence[Row]) -> Vectors:
        """The rows' instructions as vectors, by the base model or the one that is named."""
        from triptych.models.embed import embed_texts

        texts = [row.instruction for row in rows]
        name = self.config.strategies.demos.embedding
        if name != "model":
            return embed_texts(texts, model=name, reporter=self.reporter)
        loaded, _ = self.load()
        with adapter_enabled(self.adapter, on=False):
            return embed_texts(texts, model=loaded, reporter=self.reporter)

    def note_memory(self, now: int | None = None) -> int | None:
        """Record the peak memory of a process, this one or `now`, if it is the largest so far, killed ones included."""
        lock = read_json(self.folder.lock)
        before, now = lock.get("peak_memory_bytes"), now or peak_memory()
        if now is not None and now > 1.02 * (before or 0):
            write_twice(self.folder.lock, {**lock, "peak_memory_bytes": now})
            return now
        return before or now

    def begin_as(self, runtime_choices: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
        """Compute as another process of this run does; `begun` is empty where none has loaded the model yet.

        The lock is written where this session is the one that writes it, and does not hold this yet.
        """
        if not self.begun:
            self.runtime_choices, self.begun = dict(runtime_choices), dict(begun)
            if begun:
                self._write_begun()

    def _begin(self, loaded: LoadedModel, scorer: Scorer) -> None:
        self.runtime_choices = {
            **self.runtime_choices,
            "dtype": loaded.info["dtype"],
            "threads": loaded.info["threads"] or None,
            "hold": loaded.info["weights_held"] if self.config.model.quantize == "nf4" else "auto",
            "budget_tokens": scorer.budget,
        }
        facts = {**loaded.info, "passes": "packed" if scorer.packed else "one row at a time"}
        limit = ContextLimit.of("max_tokens", self.config.max_tokens, loaded.max_tokens)
        self.begun = {**provenance(), "model": facts, "max_tokens": limit.tokens}
        self._write_begun()

    def locked(self) -> None:
        """The folder's lock is this run's from here on."""
        self._locked = True
        if self.begun:
            self._write_begun()

    def _write_begun(self) -> None:
        if self._writes and self._locked:
            lock = read_json(self.folder.lock)
            write_twice(self.folder.lock, {**lock, "chosen": self.runtime_choices, "begun": self.begun})


@dataclass(frozen=True)
class RunContext:
    """One run's rows, model, folder and finished cells."""

    config: ExperimentConfig
    folder: RunFolder
    reporter: Reporter
    rows: ExperimentRows
    session: Session
    facts: RunFacts
    """From what each record is made."""
    finished: dict[str, FinishedCell]
    """Scored cells, by name; the run adds those that it scores."""

    def attach(self, training: TrainingSpec | None) -> Adapter | None:
        """Put a training's adapter on the model; take it off, and return None, for the base model's own cells."""
        if training is None:
            self.session.detach()
            return None
        return self.session.attach(self.folder.adapter_of(training))
