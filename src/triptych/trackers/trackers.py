"""Experiment trackers: what a run does, shown while it does it. Off unless `report.trackers` names one.

Each tracker's library is called directly. One that raises is named once and dropped, and the run continues; one that
hangs delays the run. `trackers/NAME.json` in the run's folder holds the last step sent of each series, and is written
before the step is sent: a resumed run sends no point twice (one may be missing after a kill).
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from statistics import fmean

from triptych.errors import ConfigError, DataError
from triptych.progress import Reporter
from triptych.records import Aggregate, CellRecord, CurvePoint, RunRecord
from triptych.records.manifest import claim
from triptych.records.store import read_json, write_json
from triptych.trackers.kinds import KINDS, Tracker

Call = Callable[[Tracker], None]
Open = Callable[[str | None], Tracker]
"""Opens a tracker, under the id it had before."""
_FILLS = ("tensorboard", "wandb")
"""Trackers whose library writes into a folder of the run."""
_SHOWN = ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")


def check_trackers(names: Sequence[str]) -> None:
    """Check that the libraries are installed; raises ConfigError, which names the extra, if one is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"the tracker {name} is not installed",
                where="key `report.trackers`",
                found=", ".join(names),
                fix=f"pip install 'triptych[{name}]', or take it out of report.trackers",
            )


class Trackers:
    """The trackers of a run, by `names` of `KINDS`; with none, every call does nothing.

    `reporter` warns of a tracker that is dropped; `opens` replaces the real trackers (for tests).

    Raises:
        ConfigError: a library is missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        title: str,
        reporter: Reporter,
        opens: Mapping[str, Open] | None = None,
    ) -> None:
        self.folder, self.reporter = folder, reporter
        if opens is None:
            check_trackers(names)
            claim(*(folder / "trackers" / name for name in names if name in _FILLS), tree=True)
            opens = {name: partial(KINDS[name], folder / "trackers", title) for name in names}
        self._senders = {name: _Sender(folder / "trackers" / f"{name}.json", opens[name]) for name in names}

    def config(self, settings: Mapping[str, str]) -> None:
        """The settings, flat; sent once."""
        self._send("config", {0: methodcaller("config", settings)})

    def points(self, curve: Sequence[CurvePoint], *, log: Path | None = None, training: str | None = None) -> None:
        """Send what is new in a learning curve and in its training's `log.jsonl`.

        `training`: its name; None for the run's first.
        """
        if not self._senders:
            return
        before = f"{training}/" if training else ""
        lines = log.read_text(encoding="utf-8").splitlines() if log is not None and log.exists() else []
        steps = {
            line["step"]: {f"{before}train/{name}": float(line[name]) for name in ("loss", "lr", "grad_norm")}
            for line in map(json.loads, lines)
        }
        self._numbers(f"{before}train", steps, f"{before}train/step")
        for split in dict.fromkeys(point.split for point in curve):
            of_split = {}
            for point in curve:
                if point.split == split:
                    loss = {} if point.train_loss is None else {f"{before}curve/train_loss": point.train_loss}
                    of_split[point.step] = _averages(f"{before}curve/{split}", point.aggregate) | loss
            self._numbers(f"{before}curve/{split}", of_split, f"{before}curve/step")

    def cell(self, record: CellRecord) -> None:
        """A finished cell's averages."""
        name = f"cells/{record.cell}"
        self._send(name, {0: methodcaller("numbers", _averages(name, record.aggregate), None, "")})

    def finish(self, record: RunRecord) -> None:
        """Send the rest, every table and the report's files; then close the trackers."""
        self.points(record.curve, log=self.folder / "tune" / "log.jsonl")
        for cell in record.cells:
            self.cell(cell)
        for one in record.generations:
            name = f"written/{one.cell}"
            scores = {f"{name}/chrf": one.chrf, f"{name}/bleu": one.bleu}
            means = {metric: fmean(rows.values()) for metric, rows in one.row_metrics.items() if rows}
            scores |= {f"{name}/rows/{metric.replace(':', '.')}": mean for metric, mean in means.items()}
            self._send(name, {0: methodcaller("numbers", scores, None, "")})
        content = hashlib.sha256(record.model_dump_json(exclude={"provenance"}).encode()).hexdigest()[:16]
        self._send(f"end {content}", {0: self._tables_and_files})
        self.close()

    def close(self) -> None:
        """Let the trackers send what is left; also after an interruption. A second call does nothing."""
        self._each(_Sender.close)

    def _tables_and_files(self, tracker: Tracker) -> None:
        for table in sorted((self.folder / "tables").glob("*.csv")):
            with table.open(encoding="utf-8", newline="") as file:
                columns, *rows = list(csv.reader(file)) or [[]]
            tracker.table(table.stem, columns, rows)
        names = ("report.html", "report.md", "results.json", "curve.csv", "tables", "figures")
        tracker.files([path for name in names if (path := self.folder / name).exists()])

    def _numbers(self, series: str, values: Mapping[int, Mapping[str, float]], axis: str) -> None:
        self._send(series, {step: methodcaller("numbers", of_step, step, axis) for step, of_step in values.items()})

    def _send(self, series: str, calls: Mapping[int, Call]) -> None:
        self._each(methodcaller("send", series, calls))

    def _each(self, call: Callable[[_Sender], None]) -> None:
        for name, sender in list(self._senders.items()):
            try:
                call(sender)
            # SystemExit too: a tracker's library may end the process
            except (Exception, SystemExit) as error:
                del self._senders[name]
                text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]
                self.reporter.warn(f"the tracker {name} failed and is dropped: {text}")


class _Sender:
    """One tracker, opened when there is something to send, and the last step sent of each series."""

    def __init__(self, path: Path, open_: Open) -> None:
        self.path, self._open = path, open_
        self._tracker: Tracker | None = None
        try:
            stored = read_json(path)
        except DataError:
            stored = None
        stored = stored if isinstance(stored, dict) else {}
        self._id = str(stored["id"]) if stored.get("id") else None
        series = stored.get("series")
        self._sent: dict[str, int] = series if isinstance(series, dict) else {}

    def send(self, series: str, calls: Mapping[int, Call]) -> None:
        """Make the calls of steps beyond the last one sent."""
        last = self._sent.get(series, -1)
        new = [step for step in sorted(calls) if step > last]
        if not new:
            return
        if self._tracker is None:
            self._tracker = self._open(self._id)
        self._sent[series] = new[-1]
        write_json(self.path, {"id": self._tracker.id, "series": self._sent})
        for step in new:
            calls[step](self._tracker)

    def close(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()


def _averages(prefix: str, aggregate: Aggregate) -> dict[str, float]:
    found = {f"{prefix}/{name}": getattr(aggregate, name) for name in _SHOWN}
    found |= {f"{prefix}/{name}": metric.value for name, metric in aggregate.metrics.items()}
    return {name: value for name, value in found.items() if value is not None}
