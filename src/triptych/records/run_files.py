"""The names of the files that a run's folder and a comparison of runs hold: what Triptych writes there, and no more.

Names are relative to the folder, with `/`, `*` for one part. Needed where a file's name is all there is to go by: to
check before a run begins that no file of the user's is where one will be written, and for folders from before the
manifest (`manifest`).
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = (
    *("run.lock.json", "results.json", "items.parquet", "rows.parquet", "tokens.parquet", "search.json", "run.log"),
    *("curve.csv", "manifest.json", "run.lock.copy.json"),
)
"""Of every run."""
_TABLES = (
    *("study", "cells", "zero_shot", "few_shot", "comparisons", "curve", "further_curves", "settings", "trainings"),
    *("search", "generations", "text_comparisons", "uncertainty", "rows_to_settle", "hard_rows", "hurt_rows"),
    *("known_rows", "slice_*"),
)
_FIGURES = ("learning_curve", "ppl_by_k", "comparison", "differences", "scatter", "distribution")
REPORT = (
    *("report.md", "report.html", "curve.csv", "manifest.json"),
    *(f"tables/{name}.{kind}" for name in _TABLES for kind in ("csv", "tex")),
    *(f"figures/{name}.{kind}" for name in _FIGURES for kind in ("png", "svg")),
)
"""Of a report that is rebuilt."""
_COMPARED = ("runs", "levels", "perplexity", "bits_per_char")
COMPARISON = (
    *("comparison.md", "manifest.json"),
    *(f"tables/{name}.{kind}" for name in _COMPARED for kind in ("csv", "tex")),
)
"""Of `triptych report A B --out DIR`."""
ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_RECORD = "adapter_config.json", "adapter_model.safetensors", "triptych.json"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "README.md", ADAPTER_RECORD)
"""Of an adapter: PEFT's three, and Triptych's."""
CHECKPOINT_FILES = ("adapter.safetensors", "optimizer.safetensors", "state.json")
TRAINING = (
    *("curve.json", "curve.copy.json", "summary.json", "log.jsonl", "dropped.json"),
    *(f"adapter/{name}" for name in ADAPTER_FILES),
    *(f"{kept}/step-*/{name}" for kept in ("checkpoints", "best") for name in CHECKPOINT_FILES),
)
"""Of a training, in `tune/` or `trainings/NAME/`."""
_RUN = (
    *ROOT,
    *REPORT,
    *("reproduction.json", "cells/*.json", "cells/scores.sqlite", "cells/scores.sqlite-wal", "cells/scores.sqlite-shm"),
    *("predictions/*.json", "predictions/*.jsonl.part", "trackers/*.json"),
    *(f"adapter/{name}" for name in ADAPTER_FILES),
    *(f"tune/{name}" for name in TRAINING),
    *(f"trainings/*/{name}" for name in TRAINING),
    *(f"trainings/*/final/{name}" for name in ADAPTER_FILES),
)
_LIBRARIES = ("trackers/tensorboard/", "trackers/wandb/")
"""Folders that a tracker's library fills, with names of its own."""


def matches(name: str, pattern: str) -> bool:
    """Whether a name is one of a pattern's, part by part."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def is_run_file(name: str) -> bool:
    """Whether a run writes files of this name; also in the folder that a checkpoint is made in."""
    name = name.replace("/.step-", "/step-").replace(".tmp/", "/")
    return any(matches(name, pattern) for pattern in (*_RUN, *COMPARISON))


def known_before_manifest(folder: Path) -> list[str]:
    """What counts as Triptych's in a folder without a manifest: nothing, unless its records say that it is a run's.

    Runs of versions before the manifest have none. Where `run.lock.json` or `results.json` in the folder is a run's,
    the files with the names that a run writes are taken for the run's own. The same holds for a comparison, whose
    `comparison.md` says what it is. A cell's file must also hold a record.
    """
    if _is_run(folder):
        patterns = [pattern for pattern in _RUN if pattern != "manifest.json"]
        names = [name for pattern in patterns for name in _there(folder, pattern) if _is_record(folder, name)]
        return [*dict.fromkeys(names), *(tree for tree in _LIBRARIES if (folder / tree).is_dir())]
    try:
        with (folder / "comparison.md").open(encoding="utf-8") as file:
            compared = file.readline().strip() == "# Several runs"
    except (OSError, UnicodeDecodeError):
        compared = False
    patterns = [pattern for pattern in COMPARISON if pattern != "manifest.json"] if compared else []
    return [name for pattern in patterns for name in _there(folder, pattern)]


def _is_run(folder: Path) -> bool:
    lock, results = json_or_none(folder / "run.lock.json"), json_or_none(folder / "results.json")
    return (
        (isinstance(lock, dict) and "config" in lock and "prompts" in lock)
        or (isinstance(results, dict) and "schema_version" in results and "cells" in results)
        # both torn: the rest of what a run's beginning and end leave
        or all((folder / name).is_file() for name in ("run.lock.json", "results.json", "items.parquet"))
    )


def _there(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder).as_posix()) for path in folder.glob(pattern) if path.is_file())


def _is_record(folder: Path, name: str) -> bool:
    """Whether a file of a folder that holds one per cell is one; a torn one can't be told, and stays where it is."""
    if not name.startswith("cells/") or not name.endswith(".json"):
        return True
    value = json_or_none(folder / name)
    return isinstance(value, dict) and "record" in value and "items" in value


def json_or_none(path: Path) -> object:
    """A file's JSON; None where it is missing, torn or of another kind."""
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
