"""Experiment trackers: what a run does, shown while it does it. Off unless `report.trackers` names one.

Each tracker has a thread and a queue of its own, so that a slow or broken one never holds up a run: what fails is said
once, and the tracker is dropped. `trackers/NAME.json` in the run folder holds what was sent, so that a run that goes on
sends no point twice (a point that was being sent when the process was killed may be missing: it is in the run's files).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from triptych.errors import ConfigError
from triptych.progress import Watcher
from triptych.records import Aggregate, CellRecord, CurvePoint, RunRecord
from triptych.records.manifest import claim
from triptych.trackers.channel import Channel, Open, Sink

__all__ = ["TrackerName", "Trackers", "check_trackers"]

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
_FILLS = ("tensorboard", "wandb")
"""Trackers whose library fills a folder of the run's."""
_PATIENCE = 60.0
"""Seconds that the end of a run waits for a tracker to send what is left."""
_SHOWN = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")


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
            from triptych.trackers.kinds import opener

            claim(*(folder / "trackers" / name for name in names if name in _FILLS), tree=True)
            opens = {name: opener(name, folder / "trackers", title) for name in names}
        self._channels = [Channel(name, folder / "trackers" / f"{name}.json", opens[name]) for name in names]

    def config(self, settings: Mapping[str, Any]) -> None:
        """The settings, as nested as they are; sent once."""
        from triptych.report.tables.overview import flat

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
            self._once(f"{before}{point.split}@{point.step}", values, point.step, f"{before}curve/step")
        self._tell()

    def cell(self, record: CellRecord) -> None:
        """A finished cell's averages."""
        values = _numbers(f"cells/{record.cell}", record.aggregate)
        self._once(f"cell {record.cell}", values)
        self._tell()

    def finish(self, record: RunRecord, *, patience: float = _PATIENCE) -> None:
        """The rest: what was not sent yet, every table, and the report's files; then wait, but not for ever."""
        self.points(record.curve, log=self.folder / "tune" / "log.jsonl")
        for cell in record.cells:
            self.cell(cell)
        for one in record.generations:
            written = {f"written/{one.cell}/{name}": value for name, value in (("chrf", one.chrf), ("bleu", one.bleu))}
            self._once(f"written {one.cell}", written)
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

    def _once(self, key: str, values: Mapping[str, float], step: int | None = None, axis: str | None = None) -> None:
        for channel in self._channels:
            channel.once(key, lambda sink: sink.numbers(values, step, axis=axis))

    def _steps(self, lines: Sequence[Mapping[str, Any]], training: str | None) -> None:
        before = f"{training}/" if training else ""
        for channel in self._channels:
            channel.steps(before, lines)

    def _tell(self) -> None:
        for channel in self._channels:
            if (failure := channel.untold()) is not None:
                self.watcher.say(f"warning: the tracker {channel.name} failed and is dropped: {failure}")


def _numbers(prefix: str, aggregate: Aggregate) -> dict[str, float]:
    found = {f"{prefix}/{name}": getattr(aggregate, name) for name in _SHOWN}
    return {name: value for name, value in found.items() if value is not None}


def _read_csv(path: Path) -> list[list[str]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file)) or [[]]
