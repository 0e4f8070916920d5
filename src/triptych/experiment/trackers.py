"""Experiment trackers: what a run does, shown while it does it. Off unless `report.trackers` names one.

Each tracker has a thread and a queue of its own, so that a slow or broken one never holds up a run: what fails is said
once, and the tracker is dropped. `trackers/NAME.json` in the run folder holds what was sent, so that a run that goes on
sends no point twice (a point that was being sent when the process was killed may be missing: it is in the run's files).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from triptych.errors import ConfigError, DataError
from triptych.progress import Watcher
from triptych.records import Aggregate, CellRecord, CurvePoint, RunRecord
from triptych.records.store import read_json, write_json

__all__ = ["Sink", "TrackerName", "Trackers", "check_trackers"]

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
_PATIENCE = 60.0
"""Seconds that the end of a run waits for a tracker to send what is left."""
_SHOWN = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")


class Sink(Protocol):
    """One tracker, opened (`tracker_kinds`). Everything may raise: `Trackers` drops what does."""

    id: str
    """Names the same tracker's run when the run goes on."""

    def config(self, settings: Mapping[str, Any]) -> None:
        """The run's settings, flat."""

    def numbers(self, values: Mapping[str, float], step: int | None, *, axis: str | None = None) -> None:
        """Numbers of one moment; `axis` names the step where a tracker has no steps of its own per number."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table."""

    def files(self, paths: Sequence[Path]) -> None:
        """Files and folders to keep beside the numbers."""

    def close(self) -> None:
        """Send what is left."""


Open = Callable[[str | None], Sink]
"""Opens a tracker, under the id it had before."""


def check_trackers(names: Sequence[str]) -> None:
    """See that the libraries are there, before any work.

    Raises:
        ConfigError: one is missing; names the extra.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"the tracker {name} is not installed",
                where="key `report.trackers`",
                found=", ".join(names),
                fix=f"pip install 'triptych[{name}]', or take it out of report.trackers",
            )


class Trackers:
    """The trackers of a run; with no names, nothing at all.

    Args:
        names: of `tensorboard`, `wandb`, `mlflow` and `trackio`.
        folder: the run's.
        title: the run's name.
        watcher: told when a tracker is dropped.
        opens: how each name is opened; None for the real ones.

    Raises:
        ConfigError: a library is missing.
    """

    def __init__(
        self,
        names: Sequence[TrackerName],
        folder: Path,
        *,
        title: str,
        watcher: Watcher,
        opens: Mapping[str, Open] | None = None,
    ) -> None:
        self.folder, self.watcher = folder, watcher
        if opens is None:
            check_trackers(names)
            from triptych.experiment.tracker_kinds import opener

            opens = {name: opener(name, folder / "trackers", title) for name in names}
        self._channels = [_Channel(name, folder / "trackers" / f"{name}.json", opens[name]) for name in names]

    def config(self, settings: Mapping[str, Any]) -> None:
        """The settings, as nested as they are; sent once."""
        from triptych.report.tables import flat

        for channel in self._channels:
            channel.once("config", lambda sink: sink.config(flat(settings)))
        self._tell()

    def step(self, line: Mapping[str, Any], training: str | None = None) -> None:
        """A line of `log.jsonl`; a step that was sent before is not sent again."""
        self._steps([line], training)
        self._tell()

    def points(self, curve: Sequence[CurvePoint], *, log: Path | None = None, training: str | None = None) -> None:
        """The learning curve so far, and the training steps logged since the last call.

        Args:
            curve: all of it; what was sent before is not sent again.
            log: the training's `log.jsonl`.
            training: its name; None for the run's first.
        """
        if not self._channels:
            return
        if log is not None and log.exists():
            self._steps([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()], training)
        before = f"{training}/" if training else ""
        for point in curve:
            values = _numbers(f"{before}curve/{point.split}", point.aggregate)
            if point.train_loss is not None:
                values[f"{before}curve/train_loss"] = point.train_loss
            for channel in self._channels:
                channel.once(
                    f"{before}{point.split}@{point.step}",
                    lambda sink, values=values, step=point.step: sink.numbers(values, step, axis=f"{before}curve/step"),
                )
        self._tell()

    def cell(self, record: CellRecord) -> None:
        """A finished cell's averages."""
        values = _numbers(f"cells/{record.cell}", record.aggregate)
        for channel in self._channels:
            channel.once(f"cell {record.cell}", lambda sink: sink.numbers(values, None))
        self._tell()

    def finish(self, record: RunRecord, *, patience: float = _PATIENCE) -> None:
        """The rest: cells not sent yet, every table, and the report's files; then wait, but not for ever."""
        for cell in record.cells:
            self.cell(cell)
        tables = sorted((self.folder / "tables").glob("*.csv"))
        names = ("report.html", "report.md", "results.json", "curve.csv", "tables", "figures")
        files = [path for name in names if (path := self.folder / name).exists()]
        said = hashlib.sha256(record.model_dump_json(exclude={"provenance"}).encode()).hexdigest()[:16]

        def end(sink: Sink) -> None:
            for table in tables:
                columns, *rows = _read_csv(table)
                sink.table(table.stem, columns, rows)
            sink.files(files)

        for channel in self._channels:
            channel.once(f"end {said}", end)
        self.close(patience=patience)

    def close(self, *, patience: float = _PATIENCE) -> None:
        """Send what is left and end the threads; also after an interruption. Doing it twice does nothing."""
        for channel in self._channels:
            channel.end(patience)
        self._tell()

    def _steps(self, lines: Sequence[Mapping[str, Any]], training: str | None) -> None:
        before = f"{training}/" if training else ""
        for channel in self._channels:
            channel.steps(before, lines)

    def _tell(self) -> None:
        for channel in self._channels:
            if (failure := channel.untold()) is not None:
                self.watcher.say(f"warning: the tracker {channel.name} failed and is dropped: {failure}")


class _Channel:
    """One tracker's queue, and what went through it."""

    def __init__(self, name: str, path: Path, open_: Open) -> None:
        self.name, self.path, self._open = name, path, open_
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._failure: str | None = None
        self._dropped = self._told = False
        self._sink: Sink | None = None
        self._thread: threading.Thread | None = None
        try:
            known = read_json(path)
        except DataError:
            known = {}
        self._id: str | None = known.get("id")
        self._sent: dict[str, None] = dict.fromkeys(known.get("sent", ()))
        self._last: dict[str, int] = dict(known.get("steps", {}))

    def once(self, key: str, send: Callable[[Sink], None]) -> None:
        """Send this unless something was sent under the same key before."""

        def job() -> None:
            if key not in self._sent:
                sink = self._opened()
                self._sent[key] = None
                self._keep()
                send(sink)

        self._put(job)

    def steps(self, before: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Training steps beyond the last one sent."""

        def job() -> None:
            last = self._last.get(before, 0)
            new = [line for line in lines if line["step"] > last]
            if not new:
                return
            sink = self._opened()
            self._last[before] = new[-1]["step"]
            self._keep()
            for line in new:
                values = {f"{before}train/{name}": float(line[name]) for name in ("loss", "lr", "grad_norm")}
                sink.numbers(values, line["step"], axis=f"{before}train/step")

        self._put(job)

    def end(self, patience: float) -> None:
        """Wait for the queue to empty, and close."""
        if self._thread is None:
            return
        self._jobs.put(self._close)
        self._jobs.put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._failure = self._failure or f"it did not finish sending within {patience:g} s"
            self._dropped = True
        self._thread = None

    def untold(self) -> str | None:
        """Why it was dropped, the first time that is asked."""
        if self._failure is None or self._told:
            return None
        self._told = True
        return self._failure

    def _put(self, job: Callable[[], None]) -> None:
        if self._dropped:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tracker {self.name}", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._dropped:
                continue
            try:
                job()
            # SystemExit too: a tracker's library may think that it owns the process
            except (Exception, SystemExit) as error:
                text = " ".join(str(error).split())
                self._failure = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
                self._dropped = True

    def _opened(self) -> Sink:
        if self._sink is None:
            self._sink = self._open(self._id)
            self._id = self._sink.id
        return self._sink

    def _close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _keep(self) -> None:
        write_json(self.path, {"id": self._id, "steps": self._last, "sent": list(self._sent)})


def _numbers(prefix: str, aggregate: Aggregate) -> dict[str, float]:
    return {f"{prefix}/{name}": getattr(aggregate, name) for name in _SHOWN}


def _read_csv(path: Path) -> list[list[str]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file)) or [[]]
