"""TensorBoard, Weights & Biases, MLflow and Trackio behind one interface, each through its own library."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_PROJECT = "triptych"


class Tracker:
    """One tracker's run. Any call may raise: `Trackers` drops a tracker that does."""

    id: str
    """Of the tracker's run, by which a resumed run of ours opens it again."""

    def config(self, settings: Mapping[str, str]) -> None:
        """The settings, flat."""
        raise NotImplementedError

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        """Numbers of one step, `axis` its name; without a step (None), the run's own."""
        raise NotImplementedError

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; by default it is among the files only."""

    def files(self, paths: Sequence[Path]) -> None:
        """Files and folders; by default none are kept."""

    def close(self) -> None:
        """Send what is left."""


class _TensorBoard(Tracker):
    """Event files in `trackers/tensorboard`; it keeps no files, so settings, tables and report.md go in as text."""

    def __init__(self, folder: Path, title: str, run_id: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.id = run_id or title
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def config(self, settings: Mapping[str, str]) -> None:
        self.table("settings", ("setting", "value"), list(settings.items()))

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step or 0)
        self._writer.flush()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [[re.sub(r"([|<])", r"\\\1", " ".join(cell.split("\n"))) for cell in row] for row in [columns, *rows]]
        lines.insert(1, ["---"] * len(columns))
        self._writer.add_text(f"tables/{name}", "\n".join(f"| {' | '.join(line)} |" for line in lines), 0)

    def files(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.suffix == ".md":
                self._writer.add_text(path.name, path.read_text(encoding="utf-8"), 0)

    def close(self) -> None:
        self._writer.close()


class _Wandb(Tracker):
    """Online where a key is known, offline otherwise: it never asks for one."""

    def __init__(self, folder: Path, title: str, run_id: str | None) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.id = run_id or uuid.uuid4().hex[:8]
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=title,
            id=self.id,
            resume="allow",
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or ("online" if _wandb_key() else "offline"),
            settings=wandb.Settings(init_timeout=30, silent=True),
        )
        self._axes: set[str] = set()

    def config(self, settings: Mapping[str, str]) -> None:
        self._run.config.update(dict(settings), allow_val_change=True)

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        if step is None:
            self._run.summary.update(dict(values))
            return
        if axis not in self._axes:  # its own steps only ever go up, and ours begin anew with each training
            self._axes.add(axis)
            self._run.define_metric(axis)
            self._run.define_metric(f"{axis.rpartition('/')[0]}/*", step_metric=axis)
        self._run.log({**values, axis: step})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        import wandb

        self._run.log({f"tables/{name}": wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def files(self, paths: Sequence[Path]) -> None:
        import wandb

        artifact = wandb.Artifact(f"report-{self.id}", type="report")
        for path in paths:
            (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path), name=path.name)
        self._run.log_artifact(artifact)

    def close(self) -> None:
        self._run.finish()


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


class _Mlflow(Tracker):
    """Where MLFLOW_TRACKING_URI says, or where mlflow keeps its own. A client: the caller's active run stays theirs."""

    def __init__(self, folder: Path, title: str, run_id: str | None) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            existing = self._client.get_experiment_by_name(name)
            experiment = existing.experiment_id if existing else self._client.create_experiment(name)
            run_id = str(self._client.create_run(experiment, run_name=title).info.run_id)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.id = run_id

    def config(self, settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            self._client.log_param(self.id, _mlflow_name(name), value[:500])  # longer values are refused

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, _mlflow_name(name), value, step=step or 0)

    def files(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.is_dir():
                self._client.log_artifacts(self.id, str(path), path.name)
            else:
                self._client.log_artifact(self.id, str(path))

    def close(self) -> None:
        self._client.set_terminated(self.id)


def _mlflow_name(name: str) -> str:
    """A name with the characters that mlflow allows."""
    return re.sub(r"[^\w./ :-]", "_", name.replace("=", ":"))


class _Trackio(Tracker):
    """A local database; TRACKIO_SPACE_ID sends it on."""

    def __init__(self, folder: Path, title: str, run_id: str | None) -> None:
        import trackio

        self.id = run_id or f"{title}-{uuid.uuid4().hex[:6]}"
        self._run: Any = trackio.init(project=_PROJECT, name=self.id, resume="allow", embed=False)

    def config(self, settings: Mapping[str, str]) -> None:
        self._run.config.update(settings)

    def numbers(self, values: Mapping[str, float], step: int | None, axis: str) -> None:
        self._run.log(dict(values), step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        import pandas as pd
        import trackio

        self._run.log({f"tables/{name}": trackio.Table(dataframe=pd.DataFrame(list(rows), columns=list(columns)))})

    def close(self) -> None:
        self._run.finish()


_Open = Callable[[Path, str, str | None], Tracker]
KINDS: dict[str, _Open] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}
"""Name -> its class. Arguments: the run's folder `trackers/`, the run's name, the id of the tracker's run to resume."""
