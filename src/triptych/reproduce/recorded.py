"""A finished run read as an experiment: its settings, with the paths of its files here.

Paths were recorded as they were given, so a relative one means something from where the run was started. Files are
looked for there, in `--data`, and beside the run's folder, upwards; of several, one with the recorded hash is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.bundled import BUNDLED
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import validated
from triptych.config.sources import SAMPLES
from triptych.data.hub import looks_like_hub_id
from triptych.errors import DataError, ModelError
from triptych.models import identify
from triptych.records import RunRecord
from triptych.records.disk import is_there, sha256_of_file
from triptych.records.store import read_json, read_run


@dataclass(frozen=True)
class RecordedRun:
    """The records of a run that are needed to compute it again."""

    folder: Path
    record: RunRecord
    lock: dict[str, Any]

    @property
    def runtime_choices(self) -> dict[str, Any]:
        """What the run chose when it began: dtype, threads, how weights are stored, token budget."""
        choices: dict[str, Any] = self.lock.get("chosen", {})
        return choices


def read_recorded(folder: Path) -> RecordedRun:
    """Read a finished run.

    Raises:
        DataError: the folder is no finished run, or its records say too little.
    """
    if not is_there(folder / "results.json", Path.is_file):
        begun = is_there(folder / "run.lock.json", Path.is_file)
        raise DataError(
            "this run is not finished" if begun else "this folder holds no run",
            where=str(folder),
            found="run.lock.json without results.json" if begun else _listing(folder),
            expected="run.lock.json, results.json and items.parquet",
            fix="finish it with `triptych run` first" if begun else "give the folder of a finished run",
        )
    record, lock = read_run(folder), read_json(folder / "run.lock.json")
    for missing in (key for key in ("config", "data") if key not in record.provenance):
        raise DataError(
            "the run's records don't say how it was made",
            where=str(folder / "results.json"),
            expected=f"provenance.{missing}",
            fix="run the experiment again with this version of Triptych",
        )
    return RecordedRun(folder, record, lock)


def settings_again(
    run: RecordedRun, *, data: Path | None = None, model: str | None = None
) -> tuple[ExperimentConfig, tuple[str, ...]]:
    """The run's settings with the paths of its files here, and notes on what replaces a file that is gone.

    `data` is the folder of the data files and `model` the model, where they are not where they were.

    Raises:
        DataError: a data file is nowhere; its recorded hash is named.
        ConfigError: this version of Triptych doesn't know a recorded setting.
    """
    config: dict[str, Any] = dict(run.record.provenance["config"])
    config["data"] = _data_section(run, config["data"], data)
    config["model"] = {**config["model"], "name": model or _model_name(run, config["model"]["name"])}
    config["prompts"], notes = _prompts(run, config.get("prompts", {}))
    config["report"] = {**config.get("report", {}), "trackers": []}
    return validated(config, str(run.folder / "results.json")), notes


def identified(config: ExperimentConfig, run: RecordedRun) -> dict[str, str]:
    """Hashes of the model as it is now.

    Raises:
        ModelError: it can't be found; the hash it had is named.
    """
    try:
        return identify(config.model)
    except ModelError as error:
        was = run.lock.get("model", {}).get("weights_sha256", "not recorded")
        raise ModelError(
            "the run's model can't be found",
            where=config.model.name,
            found=f"{error.what}" + (f": {error.found}" if error.found else ""),
            expected=f"weights with SHA-256 {was}",
            fix="say where it is with --model",
        ) from error


def _data_section(run: RecordedRun, section: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    if section.get("dir") in SAMPLES and folder is None:
        return dict(section)
    located = {**section, "dir": None}
    for role in ("train", "test"):
        given, facts = section.get(role), run.record.provenance["data"].get(role, {})
        if given is not None and facts:  # else not needed by the run's strategies, so not read
            path = str(facts.get("path") or (Path(section["dir"]) / given if section.get("dir") else given))
            located[role] = _place(path, facts, run.folder, folder)
    return located


_SAMPLE = re.compile(r"#\d+$")


def _place(given: str, facts: Mapping[str, Any], run_folder: Path, folder: Path | None) -> str:
    # `rows.jsonl#500` is a sample of the file
    path, hash_sign, sample = given.rpartition("#") if _SAMPLE.search(given) else (given, "", "")
    if folder is None and looks_like_hub_id(path) and not is_there(path):
        return given
    sha256 = facts.get("sha256")
    there = [place for place in _candidates(path, run_folder, folder, sha256) if is_there(place, Path.is_file)]
    right = [place for place in there if sha256_of_file(place) == sha256]
    if not there:
        raise DataError(
            "a data file of the run is not where it was",
            where=str(folder / Path(path).name) if folder else path,
            found=_listing(folder) if folder else "no such file here, nor beside the run's folder",
            expected=f"a file with SHA-256 {sha256}" + (f", {facts['n_rows']:,} rows" if "n_rows" in facts else ""),
            fix="say in which folder the files are with --data",
        )
    return str((right or there)[0]) + hash_sign + sample


def _candidates(path: str, run_folder: Path, folder: Path | None, sha256: str | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / Path(path).name
        if sha256 and is_there(folder, Path.is_dir) and not is_there(folder / Path(path).name, Path.is_file):
            # under another name: recognized by its hash
            yield from (p for p in sorted(folder.iterdir()) if p.is_file() and sha256_of_file(p) == sha256)
        return
    yield Path(path)
    if not Path(path).is_absolute():
        yield from _above(run_folder, path)


def _model_name(run: RecordedRun, name: str) -> str:
    """A relative path to a model's folder or GGUF file is tried from each folder above the run's."""
    if name in BUNDLED or Path(name).is_absolute() or is_there(name):
        return name
    places = (place for place in _above(run.folder, name) if is_there(place))
    return next((str(p) for p in places if p.suffix == ".gguf" or is_there(p / "config.json")), name)


def _above(run_folder: Path, relative: str) -> Iterator[Path]:
    """A path relative to each of the folders above the run's, the nearest first."""
    return (parent / relative for parent in run_folder.resolve().parents)


def _prompts(run: RecordedRun, prompts: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Templates from files as they are now; where a file is gone, the text that the run recorded."""
    templates: dict[str, Any] = {}
    notes = []
    for name, given in prompts.items():
        if not isinstance(given, str) or "{" in given or "\n" in given:  # no file
            templates[name] = given
        elif place := next((p for p in (Path(given), *_above(run.folder, given)) if is_there(p, Path.is_file)), None):
            templates[name] = str(place)
        elif name in run.record.prompts:
            templates[name] = {key: text for key, text in run.record.prompts[name].items() if key != "sha256"}
            notes.append(f"prompt `{name}`: {given} is gone, so the recorded text is used")
    return templates, tuple(notes)


def _listing(folder: Path) -> str:
    if not is_there(folder, Path.is_dir):
        return "no such folder"
    return ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder"
