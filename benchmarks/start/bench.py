"""The first five minutes, measured: start-up, the demo, worker processes, `--within`. Medians; agreement before time.

    python benchmarks/start/bench.py start              processor time of `score --limit 1`, model used before
    python benchmarks/start/bench.py demo               wall time of examples/demo.yaml, cache of scores off
    python benchmarks/start/bench.py executor           few-shot cells: one process, two, two beside a busy core
    python benchmarks/start/bench.py within 5m 10m      how long it takes on all rows, as a share of the limit

`--float32` sets the dtype; with libraries limited to AVX2 (ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2) that is a machine without units for bfloat16. `--repeat 3` is the default.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "src" / "triptych" / "data" / "sample" / "test.json"
FEW = ["strategies.zero_shot=null", "strategies.qlora=null"]


def triptych(*arguments: str | Path) -> tuple[float, float]:
    """Run a command: seconds on the clock, and of processors, its children's included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "triptych", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, processor


def run(out: Path, *options: str, sets: list[str], example: str = "demo.yaml") -> float:
    """Run an example: seconds on the clock."""
    given = [part for text in [*sets, "cache=false"] for part in ("--set", text)]
    return triptych("run", ROOT / "examples" / example, "--out", out, *options, *given)[0]


def seconds_of_cells(out: Path) -> float:
    """From the first cell's beginning to the last one's end, as the log has them."""
    times = []
    for line in (out / "run.log").read_text(encoding="utf-8").splitlines():
        if " INFO scoring " in line or ": ppl_mean " in line:
            times.append(datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f"))
    return (max(times) - min(times)).total_seconds()


def numbers(out: Path) -> list[float]:
    """Every cell's mean perplexity, exact."""
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return [cell["aggregate"]["ppl_mean"] for cell in record["cells"]]


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that wants a core all the time."""
    process = multiprocessing.Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def show(name: str, seconds: list[float], unit: str = "s") -> float:
    middle = median(seconds)
    print(f"{name:44} {middle:7.2f} {unit}   of {', '.join(f'{value:.2f}' for value in seconds)}", flush=True)
    return middle


def measure_start(folder: Path, repeat: int, sets: list[str]) -> None:
    dtype = ["--dtype", "float32"] if "model.dtype=float32" in sets else []
    options = ["--model", "demo", "--data", SAMPLE, "--limit", "1", "--no-cache", "--force", "--out", folder / "s.json"]
    triptych("score", *options, *dtype)  # the model is used for the first time
    show("score --limit 1, processor time", [triptych("score", *options, *dtype)[1] for _ in range(repeat)])
    show("--help, processor time", [triptych("--help")[1] for _ in range(repeat)])


def measure_demo(folder: Path, repeat: int, sets: list[str]) -> None:
    show("demo", [run(folder / f"demo-{n}", sets=sets) for n in range(repeat)])


def measure_executor(folder: Path, repeat: int, sets: list[str]) -> None:
    ways = {"local:1, one thread": [], "local:2": [], "local:2 beside a busy core": []}
    found: list[list[float]] = []
    for n in range(repeat):
        for name, seconds in ways.items():
            out = folder / f"{name.replace(' ', '-').replace(',', '')}-{n}"
            one = ["model.threads=1"] if name.startswith("local:1") else []
            with busy_core() if "busy" in name else tempfile.TemporaryDirectory():
                run(out, "--on", name[:7], sets=[*FEW, *sets, *one])
            seconds.append(seconds_of_cells(out))
            found.append(numbers(out))
    assert all(values == found[0] for values in found), "the numbers differ"
    print(f"{len(found)} runs, equal to the last bit")
    one, two, busy = (show(name, seconds) for name, seconds in ways.items())
    print(f"two processes: {one / two:.2f} times one; beside a busy core: {one / busy:.2f} of one core's speed")


def measure_within(folder: Path, repeat: int, sets: list[str], limits: list[str]) -> None:
    from triptych.config.within import seconds_of

    for limit in limits:
        took = []
        for n in range(repeat):
            out = folder / f"{limit}-{n}"
            took.append(run(out, "--within", limit, sets=sets, example="sample.yaml"))
            record = json.loads((out / "results.json").read_text(encoding="utf-8"))
            print(*record["warnings"][:1], f"{len(record['curve'])} points", sep="; ", flush=True)
        show(f"--within {limit}, share of the limit", [seconds / seconds_of(limit) for seconds in took], "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "demo", "executor", "within"])
    parser.add_argument("limits", nargs="*", default=["5m"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--rows", type=int, help="test rows, instead of the demo's")
    given = parser.parse_args()
    sets = ["model.dtype=float32"] if given.float32 else []
    sets += [f"data.test_sample={given.rows}"] if given.rows else []
    print(f"{given.what}: {os.cpu_count()} cores, {', '.join(sets) or 'dtype auto'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if given.what == "within":
            measure_within(place, given.repeat, sets, given.limits)
        else:
            {"start": measure_start, "demo": measure_demo, "executor": measure_executor}[given.what](
                place, given.repeat, sets
            )


if __name__ == "__main__":
    main()
