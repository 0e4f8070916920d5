"""Where the preset `qlora-short` comes from: learning rate, schedule, rank and alpha, chosen on rows held out of train.

    python benchmarks/training/recipe.py --data DIR --out DIR

One axis after another, each starting from the best so far:

    lr  ─►  schedule  ─►  r  ─►  alpha

Every candidate trains on the same rows of the study's training set in the same order, and is scored on the same dev
rows, which are training rows no candidate trains on. The test set takes no part. A finished candidate is read, not
trained again, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from job import ROOT
from tabulate import tabulate

from triptych.config.model import ModelConfig
from triptych.config.tune import TuneConfig
from triptych.data import read_rows, split_dev, take
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer, to_items
from triptych.models import detach_adapter, load_model
from triptych.prompts import Rendered, find_template, render
from triptych.records.store import write_json
from triptych.training import TuneRows, tune

Settings = dict[str, Any]
START: Settings = {"r": 16, "alpha": 16.0, "lr": 1e-3, "schedule": "linear"}
AXES: dict[str, list[Any]] = {
    "lr": [5e-4, 1e-3, 2e-3, 4e-3],
    "schedule": ["linear", "cosine"],
    "r": [16, 32, 64],
    "alpha": [16.0, 32.0],
}
"""Narrowed by a first walk on 1,000 rows and one epoch (docs/results/training.md)."""


def main() -> None:
    """Walk along the axes, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/hw3", help="folder of the study's data")
    parser.add_argument("--rows", type=int, default=2000, help="rows trained on")
    parser.add_argument("--dev-rows", type=int, default=250, help="rows chosen by")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"), help="a folder per candidate")
    options = parser.parse_args()
    search = Search(options)
    best = dict(START)
    for axis, values in AXES.items():
        tried = {value: search.ppl({**best, axis: value}) for value in values}
        best[axis] = min(tried, key=lambda value: tried[value])
        print(f"{axis}: " + ", ".join(f"{value} {ppl:.3f}" for value, ppl in tried.items()), flush=True)
    print(tabulate(search.lines(), ["r", "alpha", "lr", "schedule", "dev ppl_mean", "dev ppl_corpus"], "github"))
    print(f"\nchosen of {len(search.found)}: {best}")


class Search:
    """Candidates on one loaded model."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loaded = load_model(ModelConfig(name="demo", quantize="nf4", dtype="auto", threads=options.threads))
        self.scorer = Scorer(self.loaded)
        rest, dev = split_dev(read_rows(options.data / "train.json"), options.dev_rows, seed=0)
        self.train, self.dev = self.rendered(take(rest, options.rows, seed=0)), self.rendered(dev)
        self.found: dict[str, Any] = {}

    def rendered(self, rows: list[Any]) -> list[Rendered]:
        """With the default prompt."""
        template = find_template("default")
        return [render(row, template, self.loaded.profile) for row in rows]

    def ppl(self, settings: Settings) -> float:
        """Dev `ppl_mean` of a candidate, trained unless that was done before."""
        name = "-".join(f"{key}={value}" for key, value in settings.items())
        path = self.options.out / name / "result.json"
        about = {key: getattr(self.options, key) for key in ("rows", "dev_rows", "epochs", "seed")}
        if name not in self.found and path.is_file():
            self.found[name] = json.loads(path.read_text(encoding="utf-8"))
            if self.found[name]["about"] != about:
                raise SystemExit(f"{path} was made with {self.found[name]['about']}: choose another --out")
        if name not in self.found:
            began = time.perf_counter()
            config = TuneConfig(epochs=self.options.epochs, seed=self.options.seed, **settings)
            result = tune(self.loaded, TuneRows(self.train), config, path.parent, prompt="default", scorer=self.scorer)
            scores = aggregate(to_items(self.dev, self.scorer.score(self.dev)))
            detach_adapter(self.loaded, result.adapter)
            seconds = time.perf_counter() - began
            made = {"settings": settings, "about": about, "dev": scores.model_dump(), "seconds": seconds}
            write_json(path, made)
            self.found[name] = made
            print(f"{name}: dev ppl_mean {scores.ppl_mean:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True)
        value: float = self.found[name]["dev"]["ppl_mean"]
        return value

    def lines(self) -> list[list[Any]]:
        """All candidates, best first."""
        results = sorted(self.found.values(), key=lambda one: one["dev"]["ppl_mean"])
        return [
            [*(str(one["settings"][key]) for key in ("r", "alpha", "lr", "schedule")), *_both(one["dev"])]
            for one in results
        ]


def _both(dev: dict[str, float]) -> list[str]:
    return [f"{dev[key]:.3f}" for key in ("ppl_mean", "ppl_corpus")]


if __name__ == "__main__":
    main()
