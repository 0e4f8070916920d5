"""Quality at equal budget: Triptych's training against TRL's, by the public-test `ppl_mean` of what they make.

    python benchmarks/training/quality.py --framework trl  --seeds 0 1 2 --out DIR
    python benchmarks/training/quality.py --framework ours --seeds 0 1 2 --out DIR
    python benchmarks/training/quality.py --compare --seeds 0 1 2 --out DIR

Both train on the same rows in the same order, 16 a step, from the same adapter, with the same rate at every step
(cosine with warm-up), AdamW and clipping. TRL's side runs on the base dequantized once: its values equal
NF4's (tested bit by bit), so it is the same function, and many times faster than bitsandbytes' CPU kernels. It is
also given its own GPU path of taking only unmasked positions to the vocabulary head (see `worker.py`), which changes
its speed, not its loss. Both adapters are scored by Triptych's own scorer on the NF4 base: one definition of the
number.

A finished seed is skipped, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from job import ROOT, Bases, prepare_bases, read_training_rows, run_worker, save_start, write_job
from tabulate import tabulate

from triptych.config.model import ModelConfig
from triptych.config.tune import TuneConfig
from triptych.models import load_model
from triptych.models.device import choose_device
from triptych.prompts import Rendered, find_template
from triptych.records.store import write_json
from triptych.training import TuneRows, tune

FRAMEWORKS = ("ours", "trl")
TRL_SETTINGS: dict[str, dict[str, Any]] = {
    dtype: {
        "base": "dequantized",
        "batch_size": 4,
        "sorted": True,
        "scored_positions_only": True,
        "config": {"gradient_checkpointing": False, "bf16": dtype == "bfloat16"},
    }
    for dtype in ("float32", "bfloat16")
}

BUDGET = ("r", "alpha", "dropout", "target_modules", "epochs", "lr", "schedule", "warmup", "batch_size", "accumulation")
BUDGET += ("weight_decay", "betas", "eps", "max_grad_norm", "seed")


def main() -> None:
    """Train what is missing, or compare what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=FRAMEWORKS)
    parser.add_argument("--compare", action="store_true", help="table of the seeds that both have finished")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/hw3", help="folder of the study's data")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--r", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=16.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="of the base")
    parser.add_argument("--max-steps", type=int, help="TRL: only the first steps of the same schedule, to try it")
    parser.add_argument("--bench-python", default=str(ROOT / ".bench-venv/bin/python"), help="interpreter with TRL")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="a folder per framework and seed")
    parser.add_argument("--json-out", type=Path, help="write the comparison or the results as JSON")
    options = parser.parse_args()
    if bool(options.framework) == options.compare:
        parser.error("give --framework or --compare")
    if options.max_steps and options.framework != "trl":
        parser.error("--max-steps is for --framework trl")
    results = compare(options) if options.compare else train_all(options)
    if options.json_out:
        write_json(options.json_out, results)


def train_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every seed that isn't finished; returns the results of all."""
    rows = read_training_rows(options.data, options.rows)
    if len(rows) % options.batch_size:
        raise SystemExit(f"--rows {options.rows} is not a multiple of {options.batch_size}: steps would differ in rows")
    bases = prepare_bases(options.out, options.dtype)
    results = []
    for seed in options.seeds:
        folder = options.out / f"{options.framework}-seed-{seed}"
        config = config_of(options, seed)
        if (done := finished(folder, config, bases, options)) is not None:
            say(f"{folder} is finished: skipped")
            results.append(done)
            continue
        train = train_ours if options.framework == "ours" else train_trl
        trained = train(rows, config, bases, folder, options)
        if options.max_steps:
            continue
        result = {
            "framework": options.framework,
            "seed": seed,
            "rows": options.rows,
            "settings": config.model_dump(mode="json"),
            **trained,
            "dtype": bases.dtype,
            **score(folder, bases, options),
        }
        write_json(folder / "result.json", result)
        say(f"{options.framework} seed {seed}: public-test ppl_mean {result['ppl_mean']:.4f}")
        results.append(result)
    return results


def config_of(options: argparse.Namespace, seed: int) -> TuneConfig:
    """One training. All that both sides must share is set here, whatever Triptych's defaults become."""
    return TuneConfig(
        r=options.r,
        alpha=options.alpha,
        dropout=0.0,
        epochs=options.epochs,
        lr=options.lr,
        schedule="cosine",
        warmup=0.03,
        batch_size=options.batch_size,
        accumulation=1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
    )


def finished(folder: Path, config: TuneConfig, bases: Bases, options: argparse.Namespace) -> dict[str, Any] | None:
    """The result that is there already, if it is of the same training."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    asked = {"settings": config.model_dump(mode="json"), "rows": options.rows, "dtype": bases.dtype}
    if facts(result) != facts(asked):
        raise SystemExit(f"{path} is of another training: choose another --out, or remove the folder")
    return result


def facts(result: dict[str, Any]) -> list[Any]:
    """What has to be the same for two trainings to be comparable."""
    return [result["rows"], result["dtype"], *(result["settings"][key] for key in BUDGET)]


def train_trl(
    rows: list[Rendered], config: TuneConfig, bases: Bases, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """In a process of its own, with its own packages."""
    steps = options.max_steps or config.total_steps(len(rows))
    start = save_start(folder / "start", config)
    job = write_job(folder / "job.json", rows, config, steps, bases, start, adapter=str(folder / "adapter"))
    settings = TRL_SETTINGS[bases.dtype]
    if choose_device("auto").type == "cuda":  # where ours trains, too
        settings = {**settings, "config": {**settings["config"], "use_cpu": False}}
    records = run_worker("trl", job, options.bench_python, options.threads, settings)
    return {
        "losses": [record["loss"] for record in records[:-1]],
        "seconds": sum(record["seconds"] for record in records[:-1]),
        "trl": settings,
        **records[-1],
    }


def train_ours(
    rows: list[Rendered], config: TuneConfig, bases: Bases, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Triptych's own loop, on the base it would choose itself."""
    loaded = load_model(ModelConfig(name="demo", quantize="nf4", dtype=bases.dtype, threads=options.threads))
    say(f"ours seed {config.seed}: {config.total_steps(len(rows))} steps, log in {folder / 'log.jsonl'}")
    template = find_template("default")
    about = {"base_weights_sha256": loaded.weights_sha256, "base_model": "demo", "prompt_sha256": template.sha256}
    result = tune(loaded, TuneRows(rows), config, folder, prompt=template.name, facts=about)
    log = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {"losses": [json.loads(line)["loss"] for line in log], "seconds": result.summary.seconds}


def score(folder: Path, bases: Bases, options: argparse.Namespace) -> dict[str, Any]:
    """The public test set, by Triptych's own scorer, in a process of its own."""
    out = folder / "scores.json"
    began = time.perf_counter()
    command = [sys.executable, "-m", "triptych.cli.main", "score", "--model", "demo", "--quantize", "nf4"]
    command += ["--adapter", str(folder / "adapter"), "--data", str(options.data / "public_test.json")]
    command += ["--dtype", bases.dtype, "--threads", str(options.threads), "--no-cache", "--out", str(out)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    aggregate = json.loads(out.read_text(encoding="utf-8"))["aggregate"]
    say(f"scored in {time.perf_counter() - began:.0f} s")
    return {"ppl_mean": aggregate["ppl_mean"], "aggregate": aggregate}


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each seed that both have finished, and the means."""
    pairs = []
    for seed in options.seeds:
        paths = [options.out / f"{framework}-seed-{seed}" / "result.json" for framework in FRAMEWORKS]
        if missing := [str(path) for path in paths if not path.is_file()]:
            say(f"seed {seed} is left out, missing: {', '.join(missing)}")
            continue
        mine, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        if facts(mine) != facts(theirs):
            raise SystemExit(f"seed {seed}: the two were not trained with the same settings")
        pairs.append((mine, theirs))
    if not pairs:
        raise SystemExit("no seed is finished by both")
    table = [
        [str(a["seed"]), *(f"{r['ppl_mean']:.4f}" for r in (a, b)), f"{last(a):.4f}", f"{last(b):.4f}"]
        for a, b in pairs
    ]
    means = [statistics.mean(pair[i]["ppl_mean"] for pair in pairs) for i in (0, 1)]
    table.append(["mean", *(f"{mean:.4f}" for mean in means), "", ""])
    headers = ["seed", "ours ppl_mean", "TRL ppl_mean", "ours loss, last 20 steps", "TRL loss, last 20 steps"]
    print(tabulate(table, headers, tablefmt="github", stralign="right", disable_numparse=True))
    return [result for pair in pairs for result in pair]


def last(result: dict[str, Any]) -> float:
    """Mean training loss of the last twenty steps."""
    return statistics.mean(result["losses"][-20:])


def say(message: str) -> None:
    """Progress, to standard error."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
