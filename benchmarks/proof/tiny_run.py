"""What the proof computes through the command line: a tiny run and what it leaves, and a run folder of older code."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import where
import yaml
from measured import PIECES, Entries, sha256_of

LEFT_OUT = {
    *("seconds", "at", "command", "git", "threads_reason", "peak_memory_bytes"),
    *("triptych", "versions", "python", "packages", "platform", "processor", "accelerator"),
    "kv_tokens",  # of `predict`: keys and values that free memory had room for
}
"""Keys of times, memory, versions and the machine: what the same code need not repeat on another day."""
_TIMES = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d|Z)?( UTC)?"), "DATE"),
    (re.compile(r"\b[0-9a-f]{40}(\+changes)?"), "COMMIT"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|seconds|minutes|MB|GB|MiB|GiB)\b"), "AMOUNT"),
]
MODEL = ["--model", "model", "--quantize", "none", "--dtype", "float32", "--device", "cpu", "--threads", "1"]
TIMEOUT = 600


# --- the tiny run


def tiny_run(work: Path) -> Entries:
    """Every file with numbers or texts that the commands of a small project leave."""
    project = write_project(work / "project")

    def command(*arguments: str) -> None:
        done = run_command(project, *arguments)
        if done.returncode:
            raise SystemExit(f"triptych {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")

    quantized = ["model.quantize=nf4", "model.dtype=bfloat16", "strategies.few_shot.select=[random]"]
    quantized += ["max_tokens=560"]  # some demonstrations don't fit
    for name, sets in (("run", []), ("run-nf4", quantized)):
        command("run", "experiment.yaml", "--out", name, *(part for one in sets for part in ("--set", one)))
        yield from _of_run(name, project / name, work)
    scored = ["score", *MODEL, "--data", "data/test.json", "--no-cache"]
    shown = ["--shots", "2", "--pool", "data/train.json"]
    written = ["predict", *MODEL, "--data", "data/test.json", "--max-new-tokens", "16"]
    trained = ["tune", *MODEL, "--data", "data/train.json", "--test", "data/test.json", "--batch-size", "3"]
    trained += ["--r", "2", "--epochs", "2", "--lr", "0.01", "--dropout", "0.1", "--accumulation", "2"]
    trained += ["--dev-rows", "4", "--select", "dev", "--eval-every", "2", "--activation-checkpointing", "on"]
    command(*trained, "--schedule", "cosine", "--warmup", "0.2", "--seed", "7", "--out", "tune")
    yield from _of_run("tune", project / "tune", work)
    for name, arguments in (
        ("score", scored),
        ("score-shots", [*scored, *shown, "--seed", "1", "--draw", "seed"]),
        ("score-adapter", [*scored, *shown, "--select", "bm25", "--adapter", "run/adapter", "--prompt", "emotional"]),
        ("predict", written),
        ("predict-adapter", [*written, *shown, "--select", "embedding", "--adapter", "run/adapter"]),
    ):
        command(*arguments, "--out", f"{name}.json")
        for path in sorted(project.glob(f"{name}.*json")):
            yield f"command/{path.name}", normalised(read_json(path), work)


def _of_run(name: str, folder: Path, work: Path) -> Entries:
    yield f"{name}/results.json", normalised(read_json(folder / "results.json"), work)
    yield f"{name}/report.md", _without_times((folder / "report.md").read_text(encoding="utf-8"), work)
    for path in sorted(folder.rglob("*.parquet")):
        yield f"{name}/{path.relative_to(folder)}", pq.read_table(path).to_pylist()
    for path in sorted(folder.rglob("*.csv")):
        yield f"{name}/{path.relative_to(folder)}", _csv(path)
    for path in sorted(folder.rglob("adapter_model.safetensors")):
        yield f"{name}/{path.relative_to(folder)}", sha256_of(path.read_bytes())
    for path in sorted((folder / "predictions").glob("*.json")):
        yield f"{name}/{path.relative_to(folder)}", normalised(read_json(path), work)
    for path in sorted(folder.rglob("log.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield f"{name}/{path.relative_to(folder)}", [normalised(json.loads(line), work) for line in lines]


def _csv(path: Path) -> Any:
    """A table's bytes as a hash; where it has a column of seconds, its rows without that column."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    if "seconds" not in rows[0]:
        return f"{len(rows)} lines {sha256_of(text.encode())}"
    at = rows[0].index("seconds")
    return [row[:at] + row[at + 1 :] for row in rows]


def normalised(value: Any, work: Path) -> Any:
    """A record without `LEFT_OUT`, and with folders that don't name the machine's."""
    if isinstance(value, dict):
        return {key: normalised(item, work) for key, item in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [normalised(item, work) for item in value]
    return value.replace(str(work), "WORK") if isinstance(value, str) else value


def _without_times(text: str, work: Path) -> list[str]:
    """A report's lines: tables without columns of seconds and rows of `LEFT_OUT`, amounts of time without numbers."""
    lines: list[str] = []
    seconds: int | None = None
    for line in text.replace(str(work), "WORK").splitlines():
        if not line.startswith("|"):
            seconds = None
            lines.append(reduce(lambda told, pattern: pattern[0].sub(pattern[1], told), _TIMES, line))
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if seconds is None:  # the head
            seconds = cells.index("seconds") if "seconds" in cells else -1
        if not LEFT_OUT & set(cells[0].split(".")):  # `packages.torch`, `model.threads_reason`
            lines.append(
                " | ".join("-" if set(cell) <= set(":-") else cell for i, cell in enumerate(cells) if i != seconds)
            )
    return lines


def read_json(path: Path) -> Any:
    """The value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


# --- the project


def write_project(folder: Path) -> Path:
    """A tiny model, its rows and an experiment with every strategy, all named relative to the folder."""
    (folder / "data").mkdir(parents=True)
    where.write_tiny_model(folder / "model", "llama")
    for name, n, offset in (("train", 26, 0), ("test", 8, 1000)):
        rows = [
            {
                "id": f"{name}-{i}",
                "instruction": f"翻譯 {offset + i}：" + "".join(PIECES[(i + j) % 8] for j in range(1 + i % 3)),
                "output": "".join(PIECES[(3 * i + j) % 8] for j in range(1 + i % 4)),
                "kind": ["odd", "even"][i % 2],
            }
            for i in range(n)
        ]
        (folder / "data" / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    shown = {"prompts": ["default", "emotional"], "k": [0, 1], "start_rows": 2}
    few_shot = {"k": [1, 2], "seeds": [0, 1], "select": ["random", "bm25", "embedding", "mmr"]}
    experiment = {
        "name": "tiny",
        "cache": False,  # no number may come from an earlier run
        "model": {"name": "./model", "quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1},
        "data": {"dir": "data", "dev_rows": 4},
        "strategies": {
            "zero_shot": {"prompts": ["default", "emotional"]},
            "few_shot": few_shot,
            "qlora": {"trained_k": [0, 2], "score": [{"prompts": ["emotional"]}, {"k": [2]}]},
            "search": shown,
        },
        "tune": {"r": 2, "epochs": 2, "batch_size": 4, "eval_every": 4, "lr": 0.01},
        "generate": {"max_new_tokens": 12, "rows": 6},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    return folder


def environment(project: Path) -> dict[str, str]:
    """One thread, no network, and a cache of the project's own."""
    own = {"TRIPTYCH_CACHE": str(project.parent / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    own["PYTHONHASHSEED"] = "0"  # peft writes the layers of adapter_config.json in the order of a set
    return {**os.environ, **own, "PYTHONWARNINGS": "ignore", "COLUMNS": "120"}


def run_command(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`triptych ARGUMENTS` in the project's folder; what it says on either stream is its stdout."""
    return subprocess.run(
        [*where.COMMAND, *arguments],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


# --- a run folder of older code


def keep_runs(work: Path, keep: Path) -> Path:
    """Write KEEP.tar: a project with a whole run, one killed after two cells, and one killed amid its training."""
    project = write_project(work / "kept" / "project")
    done = run_command(project, "run", "experiment.yaml", "--out", "whole")
    if done.returncode:
        raise SystemExit(done.stdout)

    def cells() -> int:
        return len(list((project / "half" / "cells").glob("*.json")))

    def steps() -> int:
        log = project / "training" / "tune" / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    _kill(project, "half", lambda: cells() >= 2)
    _kill(project, "training", lambda: steps() >= 6)
    whole = len(list((project / "whole" / "cells").glob("*.json")))
    if not 2 <= cells() < whole or (project / "training" / "results.json").exists():
        raise SystemExit("the runs were done before they were killed: run this again when the machine is less busy")
    print(f"kept: a whole run of {whole} cells; one killed after {cells()} cells; one killed after {steps()} steps")
    target = keep.with_name(keep.name + ".tar")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as tar:
        tar.add(project, arcname="project")
    return target


def _kill(project: Path, out: str, ready: Callable[[], bool]) -> None:
    """Begin the run in a folder, and kill it when it has come so far."""
    command = [*where.COMMAND, "run", "experiment.yaml", "--out", out]
    null = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=project, env=environment(project), stdout=null, stderr=null) as process:
        end = time.monotonic() + TIMEOUT
        while not ready() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.0005)
        process.kill()


def old_run(tar: Path, work: Path) -> bool:
    """Unpack KEEP.tar, and try report, reproduce and resuming with the current code. Returns whether all is well."""
    with tarfile.open(tar) as packed:
        packed.extractall(work / "old", filter="data")
    project = work / "old" / "project"
    before = project / "whole-before"
    shutil.copytree(project / "whole", before)
    fine = True
    for title, arguments, out in (
        ("report", ["report", "whole"], "whole"),
        ("reproduce", ["reproduce", "whole", "--out", "again"], "again"),
        ("resume after two cells", ["run", "experiment.yaml", "--out", "half"], "half"),
        ("resume amid training", ["run", "experiment.yaml", "--out", "training"], "training"),
        ("the same command again", ["run", "experiment.yaml", "--out", "whole"], "whole"),
    ):
        done = run_command(project, *arguments)
        lines = done.stdout.strip().splitlines()
        wrong = list(_cells_that_differ(before, project / out))
        print(f"{title}: exit code {done.returncode}; last line: {lines[-1] if lines else '(none)'}")
        if done.returncode:
            print("    " + "\n    ".join(lines[-12:]))
        for line in lines:
            if re.search(r"already scored|continues from|written before", line):
                print(f"    {line.strip()}")
        print(f"    cells: {'as in the old run, to the bit' if not wrong else 'DIFFER: ' + '; '.join(wrong[:6])}")
        if title == "report":
            texts = [_without_times((path / "report.md").read_text(), work) for path in (before, project / out)]
            print(f"    report.md: {'as in the old run' if texts[0] == texts[1] else 'differs from the old run'}")
        fine = fine and not done.returncode and not wrong
    return fine


def _cells_that_differ(old: Path, new: Path) -> Iterator[str]:
    """Names of cells of which an item or the record's own numbers are others."""
    found = []
    for folder in (old, new):
        if not (folder / "results.json").is_file():
            yield f"{folder.name} has no results.json"
            return
        cells = {one["cell"]: one for one in read_json(folder / "results.json")["cells"]}
        items: dict[str, list[Any]] = {name: [] for name in cells}
        for row in pq.read_table(folder / "items.parquet").to_pylist():
            items.setdefault(row["cell"], []).append(row)
        found.append({name: (cell["aggregate"], cell["adapter_sha256"], items[name]) for name, cell in cells.items()})
    for name in sorted({*found[0], *found[1]}):
        if found[0].get(name) != found[1].get(name):
            yield name
