"""`make bench-score`: the study's cells, scored by three contestants on the same rows in one go.

    (a) reference   one by one, straight from the protocol
    (b) lm-eval     its `hf` backend through its own API, the fastest of batch sizes 1, 4, 8, 16
    (c) ours
    (d) before      with --before: ours from another checkout, for a change that should cost no time

First the rows' NLL must agree, then time is looked at: medians of interleaved repeats, and ratios. All compute with the
same weights (NF4 dequantized once, so that lm-eval isn't slowed by bitsandbytes' CPU kernels), in the dtype that this
processor is fast in unless --dtype says another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from tabulate import tabulate

from triptych.config.choices import Draw
from triptych.config.model import ModelConfig
from triptych.data import Row, read_rows
from triptych.models import TokenizerProfile, load_model
from triptych.models.device import choose_device, choose_dtype
from triptych.prompts import draw_demos, find_template, render

HERE = Path(__file__).parent
CONTESTANTS = ("reference", "lmeval", "ours")
console = Console(soft_wrap=True)


@dataclass
class Contestant:
    """A worker process."""

    kind: str
    process: subprocess.Popen[str]
    peak_bytes: int = 0

    def ask(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Score a cell."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(requests) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        self.peak_bytes = answer["peak_bytes"]
        return answer

    def read(self) -> dict[str, Any]:
        """One line of the worker."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the {self.kind} contestant ended early (exit {self.process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Cell:
    """One setting and what was measured on it."""

    name: str
    requests: list[dict[str, Any]]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    nll: dict[str, list[float]] = field(default_factory=dict)
    batch_size: int | None = None

    def median(self, kind: str) -> float:
        """Median seconds."""
        return statistics.median(self.seconds[kind])


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/hw3"), help="folder of the study's data")
    parser.add_argument("--limit", type=int, default=40, help="test rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reference-repeats", type=int, default=1, help="(a) is slow")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grid-rows", type=int, default=0, help="also the study's whole grid on this many rows, once")
    parser.add_argument("--only-grid", action="store_true", help="leave the table of single cells out")
    parser.add_argument("--bench-python", default=".bench-venv/bin/python", help="interpreter that has lm-eval")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16 or auto: what this processor is fast in")
    parser.add_argument("--cells", help="only these, by the beginning of their names, separated by commas")
    parser.add_argument("--kinds", default=",".join(CONTESTANTS), help="which contestants, separated by commas")
    parser.add_argument("--before", type=Path, help="src folder of another checkout, to be timed beside this one")
    parser.add_argument("--out", type=Path, help="write the measurements as JSON")
    options = parser.parse_args()
    options.dtype, why = choose_dtype(options.dtype, choose_device("cpu"))
    options.kinds = [*options.kinds.split(","), *(["before"] if options.before else [])]
    console.print(f"{options.dtype} ({why}), {options.threads} threads")
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as folder:
        profile = save_weights(Path(folder), options.dtype)
        test = read_rows(options.data / "public_test.json")[: options.limit]
        train = read_rows(options.data / "train.json")
        settings: list[tuple[str, int, Draw]] = [
            ("zero-shot", 0, "seed"),
            ("k=1, draw seed", 1, "seed"),
            ("k=3, draw seed", 3, "seed"),
            ("k=10, draw seed", 10, "seed"),
            ("k=10, draw item", 10, "item"),
        ]
        cells = [
            make_cell(name, test, train, profile, prompt="default", k=k, draw=draw, seed=0)
            for name, k, draw in ([] if options.only_grid else settings)
        ]
        if options.cells:
            cells = [cell for cell in cells if cell.name.startswith(tuple(options.cells.split(",")))]
        workers = start(Path(folder), options)
        for cell in cells:
            measure(cell, workers, options)
        if cells:
            show(cells, workers)
        if options.grid_rows:
            whole_grid(workers, test[: options.grid_rows], train, profile)
        if options.out:
            options.out.write_text(json.dumps([vars(cell) | {"requests": None} for cell in cells]), encoding="utf-8")
        for worker in workers.values():
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            worker.process.wait()


def save_weights(folder: Path, dtype: str) -> TokenizerProfile:
    """The NF4 model's values as a plain folder that everyone can load."""
    loaded = load_model(ModelConfig(name="demo", quantize="nf4", dtype=dtype, threads=2))
    loaded.model.save_pretrained(folder)
    loaded.profile.tokenizer.save_pretrained(folder)
    return loaded.profile


def make_cell(
    name: str,
    test: list[Row],
    train: list[Row],
    profile: TokenizerProfile,
    *,
    prompt: str,
    k: int,
    draw: Draw,
    seed: int,
) -> Cell:
    """Strings for lm-eval, ids for the others."""
    template = find_template(prompt)
    eos = profile.tokenizer.eos_token
    requests = []
    for row in test:
        demos = draw_demos(train, k, seed=seed, draw=draw, row_id=row.id)
        rendered = render(row, template, profile, demos=demos)
        context = template.prompt(row.instruction, demos[: len(rendered.demo_ids)])
        joint = [profile.bos_id, *profile.encode(context + row.target() + eos)]
        requests.append(
            {
                "cell": name,
                "context": context,
                "continuation": row.target() + eos,
                "ids": rendered.ids,
                "n_prompt": rendered.n_prompt,
                "n_scored": rendered.n_scored,
                "joint_is_same": tuple(joint) == rendered.ids,
            }
        )
    return Cell(name, requests)


def start(folder: Path, options: argparse.Namespace) -> dict[str, Contestant]:
    """Start them and wait until their models are loaded."""
    workers = {}
    for kind in options.kinds:
        python = options.bench_python if kind == "lmeval" else sys.executable
        role = "ours" if kind == "before" else kind
        command = [python, str(HERE / "worker.py"), role, str(folder), str(options.threads), options.dtype]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(options.before)} if kind == "before" else None,
        )
        workers[kind] = Contestant(kind, process)
        workers[kind].read()
    return workers


def measure(cell: Cell, workers: dict[str, Contestant], options: argparse.Namespace) -> None:
    """Interleaved repeats; the first of each is also what the NLL are compared by."""
    for repeat in range(options.repeats):
        for kind, worker in workers.items():
            if kind == "reference" and repeat >= options.reference_repeats:
                continue
            answer = worker.ask(cell.requests)
            cell.seconds.setdefault(kind, []).append(answer["seconds"])
            cell.nll.setdefault(kind, answer["nll"])
            cell.batch_size = answer["batch_size"] or cell.batch_size
    agreement(cell)


def agreement(cell: Cell) -> None:
    """Mean difference in nats per token, rows that lm-eval tokenizes otherwise left out and counted."""
    n_scored = [r["n_scored"] for r in cell.requests]
    same = [i for i, r in enumerate(cell.requests) if r["joint_is_same"]]
    lines = []
    for kind, rows in (("ours", range(len(n_scored))), ("before", range(len(n_scored))), ("lmeval", same)):
        if kind not in cell.nll or "reference" not in cell.nll:
            continue
        differences = [abs(cell.nll[kind][i] - cell.nll["reference"][i]) / n_scored[i] for i in rows]
        if not differences:
            continue
        lines.append(f"{kind}: mean {statistics.mean(differences):.4f}, worst row {max(differences):.4f}")
        if statistics.mean(differences) > 0.03:
            raise SystemExit(f"{cell.name}: {kind} does not agree with the reference: {lines[-1]} nats/token")
    console.print(
        f"{cell.name}: NLL against (a), nats/token: {'; '.join(lines)}"
        f" (lm-eval's joint tokenization differs in {len(n_scored) - len(same)} of {len(n_scored)} rows)"
    )


def show(cells: list[Cell], workers: dict[str, Contestant]) -> None:
    """The table."""
    rows = []
    others = [kind for kind in workers if kind != "ours"]
    for cell in cells:
        ours, tokens = cell.median("ours"), sum(len(r["ids"]) for r in cell.requests)
        seconds = [f"{cell.median(kind):.2f}" for kind in others]
        ratios = [f"{cell.median(kind) / ours:.2f}x" for kind in others]
        batch = [str(cell.batch_size)] if "lmeval" in others else []
        rows.append([cell.name, tokens, *seconds, *batch, f"{ours:.2f}", *ratios, f"{tokens / ours:,.0f}"])
    batch = ["lmeval batch"] if "lmeval" in others else []
    headers = ["cell", "tokens", *(f"{k} s" for k in others), *batch, "ours s", *(f"{k} / ours" for k in others)]
    print(tabulate(rows, [*headers, "ours tokens/s"], tablefmt="github", stralign="right"))
    peaks = ", ".join(f"{kind} {worker.peak_bytes / 1e9:.2f} GB" for kind, worker in workers.items())
    console.print(f"peak memory of each process: {peaks}; {len(cells[0].requests)} rows")


def whole_grid(workers: dict[str, Contestant], test: list[Row], train: list[Row], profile: TokenizerProfile) -> None:
    """2 zero-shot prompts and k = 1, 2, 3, 10 x 3 seeds with new demonstrations for each row, once."""
    settings = [("default", 0, 0), ("emotional", 0, 0)] + [("default", k, s) for k in (1, 2, 3, 10) for s in (0, 1, 2)]
    totals = dict.fromkeys(workers, 0.0)
    for prompt, k, seed in settings:
        cell = make_cell(f"{prompt} k={k}", test, train, profile, prompt=prompt, k=k, draw="item", seed=seed)
        for kind, worker in workers.items():
            totals[kind] += worker.ask(cell.requests)["seconds"]
    a, b, c = (totals[kind] for kind in CONTESTANTS)
    console.print(
        f"the study's grid, {len(settings)} cells x {len(test)} rows: (a) {a:.0f} s, (b) {b:.0f} s, (c) {c:.0f} s; "
        f"a / c {a / c:.1f}x, b / c {b / c:.1f}x"
    )


if __name__ == "__main__":
    main()
