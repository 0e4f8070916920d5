"""`make bench-generate`: few-shot predictions, `triptych.generate` against one-by-one `model.generate`, same rows.

    (a) one by one     transformers' model.generate, a row at a time (its own cache, its own attention)
    (b) padded         transformers' model.generate, batches of 16 sorted by length, padded on the left
    (c) ours

All tokens must be equal in float32, or no time is printed. The contestants take turns in the dtype that the processor
multiplies fastest, and medians and ratios are printed. In bfloat16 near ties fall differently with the shape of a
product, so there float32 is compared first, and the share of equal rows is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tabulate import tabulate
from transformers import GenerationConfig

from triptych.config.model import ModelConfig
from triptych.data import read_rows
from triptych.generate.engine import generate_rows
from triptych.generate.plan import choose_limits
from triptych.generate.settings import GenerationSettings
from triptych.models import LoadedModel, load_model
from triptych.models.device import choose_device, choose_dtype
from triptych.progress import Silent
from triptych.prompts import RenderedPrompt, draw_demos, find_template, render_prompt

Tokens = list[list[int]]
console = Console(soft_wrap=True)
PADDED_ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/hw3"), help="folder of the study's data")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--limit", type=int, default=40, help="test rows")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--draw", choices=["item", "seed"], nargs="+", default=["seed", "item"])
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="that is timed")
    parser.add_argument("--only-equal", action="store_true", help="show that tokens are equal in float32, time nothing")
    parser.add_argument("--out", type=Path, help="write the measurements as JSON")
    options = parser.parse_args()
    dtype, _ = choose_dtype(options.dtype, choose_device("cpu"))
    apart = options.only_equal or dtype != "float32"
    found = {draw: {"float32": equal_tokens(draw, options)} if apart else {} for draw in options.draw}
    if not options.only_equal:
        loaded = load(options, dtype)
        for draw in options.draw:
            found[draw]["timed"] = timed(loaded, draw, options)
        show(found, dtype, options)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def load(options: argparse.Namespace, dtype: str) -> LoadedModel:
    return load_model(ModelConfig(name=options.model, quantize="nf4", dtype=dtype, threads=options.threads))


def prompts_of(loaded: LoadedModel, draw: Any, options: argparse.Namespace) -> list[RenderedPrompt]:
    test = read_rows(options.data / "public_test.json")[: options.limit]
    train = read_rows(options.data / "train.json")
    template = find_template("default")
    return [
        render_prompt(
            row,
            template,
            loaded.profile,
            demos=draw_demos(train, options.shots, seed=0, draw=draw, row_id=row.id),
            reserve=options.max_new_tokens,
        )
        for row in test
    ]


def by_generate(loaded: LoadedModel, prompts: list[RenderedPrompt], most: int, at_once: int) -> Tokens:
    """transformers' own, `at_once` rows in a batch."""
    pad = loaded.profile.tokenizer.pad_token_id
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        longest = max(len(prompts[i].ids) for i in rows)
        ids = torch.tensor([[pad] * (longest - len(prompts[i].ids)) + list(prompts[i].ids) for i in rows])
        mask = torch.tensor(
            [[0] * (longest - len(prompts[i].ids)) + [1] * len(prompts[i].ids) for i in rows], dtype=torch.long
        )
        stop_ids = list(prompts[0].stop_ids)
        config = GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=stop_ids, pad_token_id=pad)
        with torch.inference_mode():
            out = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        for i, row in zip(rows, out[:, longest:].tolist(), strict=True):
            end = next((at + 1 for at, token in enumerate(row) if token in stop_ids), len(row))
            found[i] = row[:end]
    return [found[i] for i in range(len(prompts))]


def ours(loaded: LoadedModel, prompts: list[RenderedPrompt], most: int) -> Tokens:
    settings = GenerationSettings(max_new_tokens=most)
    return [list(row.ids) for row in generate_rows(loaded, prompts, settings, Silent(), limits=choose_limits(loaded))]


def contestants(
    loaded: LoadedModel, prompts: list[RenderedPrompt], options: argparse.Namespace
) -> dict[str, Callable[[], Tokens]]:
    most = options.max_new_tokens
    return {
        "one by one": lambda: by_generate(loaded, prompts, most, 1),
        "padded": lambda: by_generate(loaded, prompts, most, PADDED_ROWS),
        "ours": lambda: ours(loaded, prompts, most),
    }


def equal_tokens(draw: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every token of every row in float32, or the end."""
    loaded = load(options, "float32")
    prompts = prompts_of(loaded, draw, options)
    theirs = by_generate(loaded, prompts, options.max_new_tokens, 1)
    mine = ours(loaded, prompts, options.max_new_tokens)
    return require_equal(draw, prompts, theirs, mine)


def require_equal(draw: str, prompts: list[RenderedPrompt], theirs: Tokens, mine: Tokens) -> dict[str, Any]:
    wrong = [prompt.row_id for prompt, a, b in zip(prompts, theirs, mine, strict=True) if a != b]
    if wrong:
        raise SystemExit(f"draw={draw}: tokens differ in float32 in {len(wrong)} of {len(prompts)} rows: {wrong}")
    tokens = sum(map(len, theirs))
    console.print(f"draw={draw}: float32, {tokens} tokens of {len(prompts)} rows are all equal to one-by-one generate")
    return {"rows": len(prompts), "tokens": tokens}


def timed(loaded: LoadedModel, draw: str, options: argparse.Namespace) -> dict[str, Any]:
    """Interleaved repeats."""
    prompts = prompts_of(loaded, draw, options)
    ours(loaded, prompts[:2], 4)  # what is done once a model is no part of it
    seconds: dict[str, list[float]] = {}
    tokens: dict[str, Tokens] = {}
    for _ in range(options.repeats):
        for name, write in contestants(loaded, prompts, options).items():
            began = time.perf_counter()
            tokens[name] = write()
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    reference = tokens["one by one"]
    if loaded.dtype == torch.float32:
        require_equal(draw, prompts, reference, tokens["ours"])
    return {
        "rows": len(prompts),
        "prompt_tokens": sum(len(prompt.ids) for prompt in prompts),
        "new_tokens": {name: sum(map(len, rows)) for name, rows in tokens.items()},
        "equal_rows": {name: sum(map(list.__eq__, rows, reference)) for name, rows in tokens.items()},
        "seconds": seconds,
    }


def show(found: dict[str, Any], dtype: str, options: argparse.Namespace) -> None:
    lines = []
    for draw, measured in found.items():
        m = measured["timed"]
        median = {name: statistics.median(values) for name, values in m["seconds"].items()}
        for name, value in median.items():
            spread = f"{min(m['seconds'][name]):.1f} to {max(m['seconds'][name]):.1f}"
            speed = m["new_tokens"][name] / value
            ratio = median["one by one"] / value
            cells = [f"{value:.1f}", spread, m["new_tokens"][name], f"{speed:.0f}", f"{ratio:.1f}x"]
            lines.append([f"k={options.shots}, draw={draw}", name, *cells, f"{m['equal_rows'][name]}/{m['rows']}"])
    headers = ["cell", "", "median s", "from, to", "new tokens", "tokens/s", "(a) / it", "rows equal to (a)"]
    print(tabulate(lines, headers, tablefmt="github", stralign="right"))
    console.print(f"{dtype}, {options.threads} threads, {options.repeats} interleaved repeats, {torch.__version__=}")


if __name__ == "__main__":
    main()
