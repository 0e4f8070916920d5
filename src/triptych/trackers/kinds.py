"""TensorBoard, Weights & Biases, MLflow and Trackio as `trackers` uses them, through accelerate's tracker classes."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.trackers.channel import Open, Sink

__all__ = ["opener"]

_PROJECT = "triptych"


def opener(name: str, folder: Path, title: str) -> Open:
    """How a tracker is opened.

    Args:
        name: which one.
        folder: where it may keep files: `trackers/` in the run's folder.
        title: the run's name.
    """
    kinds = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}

    def open_(known: str | None) -> Sink:
        from accelerate import PartialState

        PartialState()  # accelerate's log refuses to work without it
        return kinds[name](folder, title, known)

    return open_


class _Kind:
    """What the four have in common: numbers go to accelerate's `log`."""

    def __init__(self, tracker: Any, known: str) -> None:
        self.tracker, self.id = tracker, known
        # only the first rank makes trackers, and accelerate's own check would ask all of them
        tracker.main_process_only = False
        tracker.start()

    def config(self, settings: Mapping[str, Any]) -> None:
        """See `Sink.config`."""
        self.tracker.store_init_configuration(dict(settings))

    def numbers(self, values: Mapping[str, float], step: int | None, *, axis: str | None = None) -> None:
        """See `Sink.numbers`."""
        self.tracker.log(dict(values), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """See `Sink.table`; nothing where files hold the tables."""

    def files(self, paths: Sequence[Path]) -> None:
        """See `Sink.files`; nothing where the tracker keeps none."""

    def close(self) -> None:
        """See `Sink.close`."""
        self.tracker.finish()


class _TensorBoard(_Kind):
    """Event files in `trackers/tensorboard`; it keeps no files, so the tables and report.md go in as text."""

    def __init__(self, folder: Path, title: str, known: str | None) -> None:
        from accelerate.tracking import TensorBoardTracker

        super().__init__(TensorBoardTracker("tensorboard", logging_dir=folder), known or title)

    def numbers(self, values: Mapping[str, float], step: int | None, *, axis: str | None = None) -> None:
        """See `Sink.numbers`."""
        self.tracker.log(dict(values), step=0 if step is None else step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """See `Sink.table`."""
        from triptych.report import Table, to_markdown

        table = Table(name, tuple(columns), tuple(tuple(row) for row in rows))
        self.tracker.log({f"tables/{name}": to_markdown(table)}, step=0)

    def files(self, paths: Sequence[Path]) -> None:
        """See `Sink.files`."""
        for path in paths:
            if path.suffix == ".md":
                self.tracker.log({path.name: path.read_text(encoding="utf-8")}, step=0)


class _Wandb(_Kind):
    """Online where a key is known, offline otherwise: it never asks for one."""

    def __init__(self, folder: Path, title: str, known: str | None) -> None:
        import wandb
        from accelerate.tracking import WandBTracker

        folder.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE") or ("online" if _wandb_key() else "offline")
        named = known or uuid.uuid4().hex[:8]
        settings = wandb.Settings(init_timeout=30, silent=True)
        super().__init__(
            WandBTracker(
                os.environ.get("WANDB_PROJECT", _PROJECT),
                name=title,
                id=named,
                resume="allow",
                dir=str(folder),
                mode=mode,
                settings=settings,
            ),
            named,
        )
        self._axes: set[str] = set()

    def numbers(self, values: Mapping[str, float], step: int | None, *, axis: str | None = None) -> None:
        """See `Sink.numbers`. Its own steps only ever go up, and ours begin anew with each training."""
        if step is None or axis is None:
            self.tracker.tracker.summary.update(dict(values))
            return
        if axis not in self._axes:
            self._axes.add(axis)
            self.tracker.tracker.define_metric(axis)
            self.tracker.tracker.define_metric(f"{axis.rpartition('/')[0]}/*", step_metric=axis)
        self.tracker.log({**values, axis: step})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """See `Sink.table`."""
        self.tracker.log_table(f"tables/{name}", columns=list(columns), data=[list(row) for row in rows])

    def files(self, paths: Sequence[Path]) -> None:
        """See `Sink.files`."""
        import wandb

        artifact = wandb.Artifact(f"report-{self.id}", type="report")
        for path in paths:
            if path.is_dir():
                artifact.add_dir(str(path), name=path.name)
            else:
                artifact.add_file(str(path), name=path.name)
        self.tracker.tracker.log_artifact(artifact)


def _wandb_key() -> bool:
    """Whether wandb could send without asking."""
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    host = re.sub(r"^https?://|/.*$", "", os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class _Mlflow(_Kind):
    """Where MLFLOW_TRACKING_URI says, or where mlflow keeps its own."""

    def __init__(self, folder: Path, title: str, known: str | None) -> None:
        from accelerate.tracking import MLflowTracker

        tracker = MLflowTracker(_PROJECT, run_id=known, run_name=title)
        super().__init__(tracker, "")
        self.id = str(tracker.tracker.info.run_id)

    def numbers(self, values: Mapping[str, float], step: int | None, *, axis: str | None = None) -> None:
        """See `Sink.numbers`; its names hold no `=`."""
        named = {re.sub(r"[^\w./ :-]", "_", name.replace("=", ":")): value for name, value in values.items()}
        self.tracker.log(named, step=step or 0)

    def files(self, paths: Sequence[Path]) -> None:
        """See `Sink.files`."""
        for path in paths:
            if path.is_dir():
                self.tracker.log_artifacts(str(path), path.name)
            else:
                self.tracker.log_artifact(str(path))


class _Trackio(_Kind):
    """A local database; TRACKIO_SPACE_ID sends it on."""

    def __init__(self, folder: Path, title: str, known: str | None) -> None:
        from accelerate.tracking import TrackioTracker

        named = known or f"{title}-{uuid.uuid4().hex[:6]}"
        super().__init__(TrackioTracker(_PROJECT, name=named, resume="allow", embed=False), named)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """See `Sink.table`."""
        import pandas as pd
        import trackio

        self.tracker.log({f"tables/{name}": trackio.Table(dataframe=pd.DataFrame(list(rows), columns=list(columns)))})
