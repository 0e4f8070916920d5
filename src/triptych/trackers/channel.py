"""The queue and thread of one tracker, what went through it, and what a tracker has to do.

What was sent is kept in a file before it is sent, so that nothing is sent twice.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from triptych.errors import DataError
from triptych.records.store import read_json, write_json

__all__ = ["Channel", "Open", "Sink"]


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


class Channel:
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
        known = known if isinstance(known, dict) else {}
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
