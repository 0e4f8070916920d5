"""`make bench-tune`: the same training steps by Triptych and by what one would use instead, in one go.

    (a)  plain        Hugging Face + peft + bitsandbytes NF4, the padded loop of public solutions
    (b)  trl-default  TRL's SFTTrainer at its defaults, NF4 base
    (c)  trl-best     TRL at the best settings found on this device (tried here, printed)
    (c') trl-patched  (c) with TRL's GPU-only skipping of masked positions forced on; no setting does that
    (d)  ours-packed, ours    NF4 dequantized at each use, and dequantized once

Same rows in the same steps, same adapter to start from, same constant rate, AdamW, clipping; each in a process of its
own, one after another. The losses must agree first; then come medians over the steps after the first, which warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job import ROOT, prepare_bases, read_training_rows, run_worker, save_start, write_job
from tabulate import tabulate

from triptych.config.tune import TuneConfig
from triptych.records.store import write_json

CONTESTANTS = ("plain", "trl-default", "trl-best", "trl-patched", "ours-packed", "ours")
LABELS = dict(zip(CONTESTANTS, ("(a)", "(b)", "(c)", "(c')", "(d) packed", "(d) once"), strict=True))
ROWS = 2000
"""How many rows the steps' rows are drawn from."""
TOLERANCE_FIRST, TOLERANCE = 0.01, 0.1
"""Nats per scored token: at the first step, where nothing has been learned and only the forward can differ, and after.
Later losses differ by more, since gradients are rounded too and AdamW's first updates are as large as the rate
whatever the gradient's size. Measured (1e-4, third step, seed 0): 3.985 in float32, 4.003 with activations between the
blocks in float32, as (a) has them, 4.054 with these in bfloat16, as the others have them."""

Settings = dict[str, Any]
START: dict[str, Settings] = {
    "bfloat16": {"base": "dequantized", "config": {"gradient_checkpointing": False}},
    # TRL's autocast to bfloat16 only costs time on a processor without units for it
    "float32": {"base": "dequantized", "config": {"gradient_checkpointing": False, "bf16": False}},
}
"""Where the search for TRL's best settings begins, by what the processor multiplies fastest."""
SHAPES: dict[str, Settings] = {
    "batch 16": {"batch_size": 16},
    "batch 8, like lengths together": {"batch_size": 8, "sorted": True},
    "batch 4, like lengths together": {"batch_size": 4, "sorted": True},
    "batch 2, like lengths together": {"batch_size": 2, "sorted": True},
    "batch 16, padding_free": {"batch_size": 16, "config": {"padding_free": True}},
}
"""How a step's rows are batched; accumulated to the same step."""
SWITCHES: dict[str, dict[str, Settings]] = {
    "bfloat16": {
        "attention eager": {"attention": "eager"},
        "float32 products in bfloat16": {"fp32_products_in_bf16": True},
        "no autocast": {"config": {"bf16": False}},
        "one loader process": {"config": {"dataloader_num_workers": 1}},
        "NF4 base": {"base": "nf4"},
    },
    "float32": {
        "attention eager": {"attention": "eager"},
        "autocast to bfloat16": {"config": {"bf16": True}},
        "one loader process": {"config": {"dataloader_num_workers": 1}},
    },
}
"""Tried one after another on the best so far, and kept where they are faster by more than 5 %."""


@dataclass
class Measured:
    """What a contestant reported."""

    name: str
    steps: list[dict[str, Any]]
    peak_bytes: int
    notes: dict[str, Any]

    @property
    def timed(self) -> list[dict[str, Any]]:
        """All steps but the first."""
        return self.steps[1:]

    @property
    def seconds(self) -> float:
        """Median seconds of a step."""
        return statistics.median(step["seconds"] for step in self.timed)

    def per_second(self, what: str) -> float:
        """Median over steps of `n_tokens` or `n_scored` per second."""
        return statistics.median(step[what] / step["seconds"] for step in self.timed)


def main() -> None:
    """Prepare, choose TRL's settings, measure, compare."""
    options = parse()
    chosen = [name for name in CONTESTANTS if not options.only or name in options.only]
    config = TuneConfig(
        r=options.r,
        alpha=options.alpha,
        lr=options.lr,
        schedule="constant",
        warmup=0.0,
        batch_size=options.rows_per_step,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as name:
        folder = Path(name)
        rows = read_training_rows(options.data, max(ROWS, options.rows_per_step * (options.steps + 1)))
        bases, start = prepare_bases(folder, options.dtype), save_start(folder / "start", config)
        job = write_job(folder / "job.json", rows, config, options.steps + 1, bases, start)
        short = write_job(folder / "calibration.json", rows, config, options.calibration_steps + 1, bases, start)
        print(
            f"{describe(json.loads(job.read_text(encoding='utf-8')))}; base in {bases.dtype} where that is free to "
            f"choose; load {os.getloadavg()[0]:.1f} before",
            flush=True,
        )
        best, tried = {}, []
        if {"trl-best", "trl-patched"} & set(chosen):
            best, tried = (options.trl_settings, []) if options.trl_settings else calibrate(short, bases.dtype, options)
        results = [measure(name, job, best, options) for name in chosen]
    show_agreement(results)
    show_speed(results)
    if options.json_out:
        write_json(options.json_out, {"trl_best": best, "tried": tried, "results": [vars(r) for r in results]})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/hw3", help="folder of the study's data")
    parser.add_argument("--steps", type=int, default=4, help="timed steps, after one to warm up")
    parser.add_argument("--rows-per-step", type=int, default=16, help="a multiple of 8")
    parser.add_argument("--r", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=16.0)
    parser.add_argument("--lr", type=float, default=1e-4, help="constant")
    parser.add_argument("--seed", type=int, default=0, help="of the rows of each step and of the adapter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of ours and of TRL's best; auto: bfloat16 where the processor has units for it",
    )
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, help="some of the contestants")
    parser.add_argument("--calibration-steps", type=int, default=1, help="timed steps of each of TRL's settings tried")
    parser.add_argument("--trl-settings", type=json.loads, help="TRL's best settings as printed before: none are tried")
    parser.add_argument("--bench-python", default=str(ROOT / ".bench-venv/bin/python"), help="interpreter with TRL")
    parser.add_argument("--json-out", type=Path, help="write the measurements as JSON")
    options = parser.parse_args()
    if options.steps < 1 or options.rows_per_step < 8 or options.rows_per_step % 8:
        parser.error("--steps is at least 1, and --rows-per-step a multiple of 8")
    return options


def describe(job: dict[str, Any]) -> str:
    """What is trained on."""
    steps = [[job["rows"][i] for i in step] for step in job["steps"]]
    rows = [row for step in steps for row in step]
    real = sum(len(row["ids"]) for row in rows)
    padded = sum(len(step) * max(len(row["ids"]) for row in step) for step in steps)
    scored = sum(len(row["ids"]) - row["n_prompt"] for row in rows)
    return (
        f"{len(steps)} steps (the first warms up) of {len(steps[0])} rows: {real} tokens, {scored} of them scored; "
        f"{1 - real / padded:.0%} of a padded step would be padding"
    )


def calibrate(job: Path, dtype: str, options: argparse.Namespace) -> tuple[Settings, list[tuple[str, float | None]]]:
    """TRL's best settings here: the best shape of batches, then each switch that makes it faster."""
    tried: list[tuple[str, float | None]] = []

    def seconds(name: str, settings: Settings) -> float:
        try:
            records = run_worker("trl", job, options.bench_python, options.threads, settings)
        except SystemExit as failure:  # a setting that can't run here is not the best one
            print(f"TRL, {name}: {failure}", file=sys.stderr, flush=True)
            tried.append((name, None))
            return float("inf")
        found = statistics.median(record["seconds"] for record in records[1:-1])
        tried.append((name, found))
        print(f"TRL, {name}: {found:.2f} s a step", file=sys.stderr, flush=True)
        return found

    start = START[dtype]
    timed = {name: seconds(name, merged(start, settings)) for name, settings in SHAPES.items()}
    kept = [min(timed, key=lambda name: timed[name])]
    best, fastest = merged(start, SHAPES[kept[0]]), timed[kept[0]]
    for name, switch in SWITCHES[dtype].items():
        if (found := seconds(f"{kept[0]} + {name}", merged(best, switch))) < 0.95 * fastest:
            best, fastest = merged(best, switch), found
            kept.append(name)
    table = [(name, "can't run" if found is None else f"{found:.2f}") for name, found in tried]
    print("\nTRL's settings tried, dequantized base and no activation checkpointing unless stated otherwise:\n")
    print(tabulate(table, ["settings", "s a step"], tablefmt="github", disable_numparse=True))
    print(f"\nchosen: {', '.join(kept)}: {json.dumps(best)}\n", flush=True)
    return best, tried


def merged(settings: Settings, more: Settings) -> Settings:
    """Settings with others over them."""
    return {**settings, **more, "config": {**settings.get("config", {}), **more.get("config", {})}}


def measure(name: str, job: Path, best: Settings, options: argparse.Namespace) -> Measured:
    """One contestant, from loading to the last step."""
    kind, settings, python = {
        "plain": ("plain", {}, options.bench_python),
        "trl-default": ("trl", {"base": "nf4"}, options.bench_python),
        "trl-best": ("trl", best, options.bench_python),
        "trl-patched": ("trl", merged(best, {"scored_positions_only": True}), options.bench_python),
        "ours-packed": ("ours", {"hold": "packed"}, sys.executable),
        "ours": ("ours", {"hold": "dequantized"}, sys.executable),
    }[name]
    print(f"{LABELS[name]} {name}", file=sys.stderr, flush=True)
    *steps, end = run_worker(kind, job, python, options.threads, settings)
    return Measured(name, steps, end.pop("peak_bytes"), {**end, "settings": settings})


def show_agreement(results: list[Measured]) -> None:
    """Each step's loss, and the end if they differ by more than rounding does."""
    reference = results[0]
    table, wrong = [], []
    for result in results:
        losses = [step["loss"] for step in result.steps]
        off = [abs(loss - step["loss"]) for loss, step in zip(losses, reference.steps, strict=True)]
        line = [LABELS[result.name], result.name, *(f"{loss:.4f}" for loss in losses)]
        table.append([*line, f"{off[0]:.4f}", f"{max(off[1:]):.4f}"])
        # the other way round, a loss that is not a number would pass
        if not (off[0] <= TOLERANCE_FIRST and max(off[1:]) <= TOLERANCE):
            wrong.append(result.name)
    headers = ["", "loss of step", *(str(at + 1) for at in range(len(reference.steps)))]
    headers += [f"from {reference.name}: first", "most after"]
    print(tabulate(table, headers, tablefmt="github", disable_numparse=True))
    bounds = f"{TOLERANCE_FIRST} nats per scored token at the first step and to {TOLERANCE} after it"
    if wrong:
        raise SystemExit(f"\nthe losses do not agree to {bounds}: {', '.join(wrong)}")
    print(f"\nall agree to {bounds}\n", flush=True)


def show_speed(results: list[Measured]) -> None:
    """Medians and ratios."""
    by_name = {result.name: result for result in results}
    mine = [name for name in ("ours-packed", "ours") if name in by_name]
    table = []
    for result in results:
        spread = f"{min(s['seconds'] for s in result.timed):.2f}-{max(s['seconds'] for s in result.timed):.2f}"
        speed = result.per_second("n_tokens")
        line = [LABELS[result.name], result.name, f"{speed:,.0f}", f"{result.per_second('n_scored'):,.0f}"]
        line += [f"{result.seconds:.2f} ({spread})", f"{result.peak_bytes / 1e9:.2f}"]
        table.append([*line, *(f"{by_name[name].per_second('n_tokens') / speed:.1f}x" for name in mine)])
    headers = ["", "framework", "real tokens/s", "scored tokens/s", "s a step (range)", "peak GB"]
    headers += [f"{LABELS[name]} is faster by" for name in mine]
    print(tabulate(table, headers, tablefmt="github", disable_numparse=True, stralign="right"))


if __name__ == "__main__":
    main()
