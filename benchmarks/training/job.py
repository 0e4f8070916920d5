"""What every framework gets: the same rows in the same order, the same rates, the same adapter to start from.

A job is one JSON file that needs nothing of Triptych to be read; `worker.py` carries it out, each framework in a
process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.config.model import ModelConfig
from triptych.config.tune import TuneConfig
from triptych.data import read_rows, take
from triptych.models import LoraSettings, attach_adapter, load_model, load_profile, save_adapter
from triptych.models.device import choose_device, choose_dtype
from triptych.models.gguf import demo_gguf, unpack_gguf
from triptych.prompts import Rendered, find_template, render
from triptych.training import learning_rate
from triptych.training.step import rows_of_step

__all__ = ["Bases", "prepare_bases", "read_training_rows", "run_worker", "save_start", "write_job"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Bases:
    """Folders of the base model's weights."""

    plain: str
    """As published (bfloat16); who loads it quantizes it."""
    dequantized: str
    """Values equal to what NF4 dequantizes to, in `dtype`: the same function as the quantized base."""
    dtype: str
    """What this machine multiplies fastest: `float32` or `bfloat16`."""


def prepare_bases(folder: Path, dtype: str = "auto") -> Bases:
    """The demo model, as it is and with NF4's values in a dtype (`auto`: the one Triptych would choose here)."""
    dtype, _ = choose_dtype(dtype, choose_device("cpu"))
    dequantized = folder / f"base-dequantized-{dtype}"
    if not (dequantized / "config.json").is_file():
        loaded = load_model(ModelConfig(name="demo", quantize="nf4", dtype=dtype, hold="dequantized", threads=1))
        loaded.model.save_pretrained(dequantized)
        loaded.profile.tokenizer.save_pretrained(dequantized)
    return Bases(str(unpack_gguf(demo_gguf())), str(dequantized), dtype)


def read_training_rows(data: Path, n: int | None) -> list[Rendered]:
    """`n` of the study's training rows (the same ones every time), rendered once, with the default prompt."""
    profile = load_profile(ModelConfig(name="demo"))
    template = find_template("default")
    return [render(row, template, profile) for row in take(read_rows(data / "train.json"), n, seed=0)]


def save_start(folder: Path, config: TuneConfig) -> Path:
    """The adapter that Triptych draws from the configuration's seed, in PEFT's format."""
    loaded = load_model(ModelConfig(name="demo", quantize="none", dtype="bfloat16", threads=1))
    save_adapter(attach_adapter(loaded, LoraSettings.of(config), seed=config.seed), folder, facts={})
    return folder


def write_job(
    path: Path, rows: Sequence[Rendered], config: TuneConfig, steps: int, bases: Bases, start: Path, **more: Any
) -> Path:
    """Rows of each step and its rate, as Triptych's own training would have them."""
    total = max(steps, config.total_steps(len(rows)))
    job = {
        "rows": [{"ids": row.ids, "n_prompt": row.n_prompt} for row in rows],
        "steps": [rows_of_step(step, len(rows), config.rows_per_step, config.seed) for step in range(steps)],
        "rates": [learning_rate(config, step, total) for step in range(steps)],
        "lr": config.lr,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "tune": config.model_dump(mode="json"),
        "start": str(start),
        "bases": asdict(bases),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def run_worker(
    kind: str, job: Path, python: str, threads: int, settings: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Carry a job out in a new process and return what it reported, a record for each step and one at the end.

    What it says meanwhile goes to our standard error. It ends with us.
    """
    command = [python, str(HERE / "worker.py"), kind, str(job), str(threads), json.dumps(settings or {})]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONWARNINGS"] = "ignore::FutureWarning"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        records = []
        for line in process.stdout:
            records.append(json.loads(line))
            if "step" in records[-1]:
                print(_progress(kind, records[-1]), file=sys.stderr, flush=True)
        if process.wait() or not records or "peak_bytes" not in records[-1]:
            raise SystemExit(f"the worker `{kind}` {settings or ''} ended early (exit {process.returncode})")
        return records
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _progress(kind: str, record: dict[str, Any]) -> str:
    return f"{kind}: step {record['step'] + 1}, loss {record['loss']:.4f}, {record['seconds']:.2f} s"
