"""Training speed on a GPU at the shape of a 7B Llama: random weights, the study's rows with Llama 2's own tokenizer.

    python benchmarks/training/gpu.py --prepare ROWS.json --data DIR --tokenizer DIR    where tokenizer and data are
    python benchmarks/training/gpu.py --rows ROWS.json --out DIR                        all contestants, a process each

    (a)  plain        Hugging Face + peft + bitsandbytes NF4, the padded loop of public solutions: batches of 4,
                      accumulated, checkpointing, autocast
    (a') plain-16     the same without accumulation and without checkpointing: its best on a GPU with room
    (b)  trl-default  TRL's SFTTrainer at its defaults, NF4 base
    (c)  trl-best     TRL on the base dequantized once, batches of 16, no checkpointing, scored positions only
                      (what it does on GPUs)
    (d)  ours-packed, ours    NF4 dequantized at each use, and dequantized once

Weights are drawn on the GPU from one seed, so all have the same ones; what they say is noise, what they cost is not.
Same rows in the same steps, same rank, targets, rate and clipping. Real tokens are those of the rows: padding doesn't
count, and the preamble counts for every row, also where it is computed once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONTESTANTS = ("plain", "plain-16", "trl-default", "trl-best", "ours-packed", "ours")
LABELS = dict(zip(CONTESTANTS, ("(a)", "(a')", "(b)", "(c)", "(d) packed", "(d) once"), strict=True))
SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
"""Llama 2 7B."""
WARM_UP = 3
Rows = list[dict[str, Any]]


def main() -> None:
    """Prepare the rows, be a contestant, or run them all and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FILE", help="render the study's rows into FILE and end")
    parser.add_argument("--data", type=Path, help="with --prepare: folder of the study's data")
    parser.add_argument("--tokenizer", type=Path, help="with --prepare: folder of Llama 2's tokenizer")
    parser.add_argument("--rows", type=Path, help="what --prepare wrote")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--steps", type=int, default=20, help=f"timed steps, after {WARM_UP} to warm up")
    parser.add_argument("--rows-per-step", type=int, default=16)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"], help="fewer, to try it")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options)
    elif options.contestant:
        compete(options)
    else:
        compare(options)


def prepare(options: argparse.Namespace) -> None:
    """Token ids of the study's training rows under the default prompt."""
    from triptych.data import read_rows
    from triptych.models.tokenizer import load_tokenizer, profile_of
    from triptych.prompts import find_template, render

    profile = profile_of(load_tokenizer(options.tokenizer), None)
    template = find_template("default")
    rows = [render(row, template, profile) for row in read_rows(options.data / "train.json")]
    options.prepare.write_text(json.dumps([{"ids": row.ids, "n_prompt": row.n_prompt} for row in rows]), "utf-8")


def compare(options: argparse.Namespace) -> None:
    """Each contestant in a process of its own, one after another; a table."""
    import torch
    from tabulate import tabulate

    options.out.mkdir(parents=True, exist_ok=True)
    rows = json.loads(options.rows.read_text(encoding="utf-8"))
    results: dict[str, dict[str, Any]] = {}
    for name in options.only:
        command = [
            sys.executable,
            __file__,
            "--contestant",
            name,
            "--rows",
            str(options.rows),
            "--out",
            str(options.out),
        ]
        command += ["--steps", str(options.steps), "--rows-per-step", str(options.rows_per_step)]
        command += ["--layers", str(options.layers)]
        began = time.perf_counter()
        done = subprocess.run(command, check=False)
        path = options.out / f"{name}.json"
        if done.returncode or not path.is_file():
            print(f"{LABELS[name]} {name} failed (exit {done.returncode})", flush=True)
            continue
        results[name] = json.loads(path.read_text(encoding="utf-8"))
        print(f"{LABELS[name]} {name}: {time.perf_counter() - began:.0f} s with loading", flush=True)
    total = sum(len(row["ids"]) for row in rows)
    table = []
    for name, result in results.items():
        timed = result["steps"][WARM_UP:]
        seconds = [step["seconds"] for step in timed]
        speed = statistics.median(step["n_tokens"] / step["seconds"] for step in timed)
        scored = statistics.median(step["n_scored"] / step["seconds"] for step in timed)
        losses = [result["steps"][at]["loss"] for at in (0, WARM_UP, -1)]
        mean = statistics.mean(seconds)
        line = [LABELS[name], name, *(f"{loss:.3f}" for loss in losses), f"{speed:,.0f}", f"{scored:,.0f}"]
        line += [f"{statistics.median(seconds) * 1e3:.0f} ({min(seconds) * 1e3:.0f}-{max(seconds) * 1e3:.0f})"]
        line += [f"{result['allocated'] / 1e9:.1f}", f"{result['reserved'] / 1e9:.1f}"]
        epochs = 3 * len(rows) / options.rows_per_step * mean / 60
        line += [
            f"{epochs:.1f}",
            *(f"{_speed(results[n]) / speed:.1f}x" for n in ("ours-packed", "ours") if n in results),
        ]
        table.append(line)
    headers = ["", "framework", "loss 1", f"loss {WARM_UP + 1}", "last", "real tokens/s", "scored tokens/s"]
    headers += ["ms a step (range)", "GB allocated", "reserved", "3 epochs, min"]
    headers += [f"{LABELS[n]} is faster by" for n in ("ours-packed", "ours") if n in results]
    print(
        f"\n{torch.cuda.get_device_name()}; torch {torch.__version__}; {len(rows):,} rows, {total:,} tokens an epoch\n"
    )
    print(tabulate(table, headers, tablefmt="github", disable_numparse=True, stralign="right"), flush=True)


def _speed(result: dict[str, Any]) -> float:
    return statistics.median(step["n_tokens"] / step["seconds"] for step in result["steps"][WARM_UP:])


def compete(options: argparse.Namespace) -> None:
    """Train as one contestant and write what was measured."""
    import torch

    rows: Rows = json.loads(options.rows.read_text(encoding="utf-8"))
    name, n_steps = options.contestant, options.steps + WARM_UP
    run = {"plain": plain, "plain-16": plain, "trl-default": trl, "trl-best": trl, "ours-packed": ours, "ours": ours}[
        name
    ]
    steps = run(name, rows, steps_of(len(rows), options.rows_per_step, n_steps), options)
    assert len(steps) == n_steps, f"{len(steps)} steps of {n_steps}"
    result = {"steps": steps, "device": torch.cuda.get_device_name(), "torch": torch.__version__}
    result |= {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    (options.out / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


def steps_of(n_rows: int, per_step: int, n_steps: int) -> list[list[int]]:
    """The rows of each step, as Triptych draws them."""
    from triptych.training.step import rows_of_step

    return [rows_of_step(step, n_rows, per_step, 0) for step in range(n_steps)]


def facts(rows: Rows, indices: list[int], loss: float, seconds: float) -> dict[str, Any]:
    """What is recorded of a step."""
    chosen = [rows[i] for i in indices]
    n_tokens, n_scored = sum(len(r["ids"]) for r in chosen), sum(len(r["ids"]) - r["n_prompt"] for r in chosen)
    return {"loss": loss, "seconds": seconds, "n_tokens": n_tokens, "n_scored": n_scored}


def base(layers: int, hold: str) -> Any:
    """The model in bfloat16 on the GPU, its linear weights in NF4 (`packed`) or with NF4's values (`dequantized`)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from triptych.models.quantize import dequantized_once

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM._from_config(
            LlamaConfig(**{**SHAPE, "num_hidden_layers": layers}), dtype=torch.bfloat16
        )
    model = model.to("cuda").requires_grad_(False)
    if hold == "dequantized":
        dequantized_once(model)
    else:
        pack(model)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return model.eval()


def pack(model: Any) -> None:
    """Replace linear layers by bitsandbytes' 4-bit ones, as `from_pretrained` with a quantization config does."""
    import bitsandbytes as bnb
    import torch

    from triptych.models.quantize import linear_layers

    for name, layer in list(linear_layers(model)):
        packed = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        packed.weight = weight.to("cuda")
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, packed)
    model.is_loaded_in_4bit = True


def lora(model: Any) -> Any:
    """Rank 16 on every linear layer, drawn from seed 0 as Triptych draws it."""
    import torch
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    return get_peft_model(model, config)


def plain(name: str, rows: Rows, steps: list[list[int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """(a): peft's preparation for k-bit training, autocast, padded batches."""
    import torch
    from peft import prepare_model_for_kbit_training
    from worker import padded

    small = name == "plain"
    model = base(options.layers, "packed")
    model.config.use_cache = False
    model = lora(prepare_model_for_kbit_training(model, use_gradient_checkpointing=small))
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0.0)
    size = 4 if small else options.rows_per_step
    out = []
    for indices in steps:
        torch.cuda.synchronize()
        began = time.perf_counter()
        chosen = [rows[i] for i in indices]
        batches = [padded(chosen[at : at + size]) for at in range(0, len(chosen), size)]
        scored = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            sent = {key: value.to("cuda") for key, value in batch.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(**sent, num_items_in_batch=torch.tensor(scored, device="cuda")).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        out.append(facts(rows, indices, total, time.perf_counter() - began))
    return out


def trl(name: str, rows: Rows, steps: list[list[int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """(b), (c): SFTTrainer on rows that are tokenized already."""
    import torch
    from transformers import PreTrainedTokenizerFast
    from worker import _trainer

    best = name == "trl-best"
    model = lora(base(options.layers, "dequantized" if best else "packed"))
    settings = {"batch_size": options.rows_per_step, "config": {"gradient_checkpointing": False}} if best else {}
    settings["config"] = {**settings.get("config", {}), "use_cpu": False, "weight_decay": 0.0}
    if not best:
        settings["config"] |= {"lr_scheduler_type": "constant"}
    job = {"rows": rows, "steps": steps, "rates": [1e-4] * len(steps), "lr": 1e-4, "max_grad_norm": 1.0, "seed": 0}
    out: list[dict[str, Any]] = []

    def report(loss: float, seconds: float) -> None:
        torch.cuda.synchronize()
        out.append(facts(rows, steps[len(out)], loss, seconds))

    from tokenizers import Tokenizer, models

    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"t{i}": i for i in range(3, 32000)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
    )
    trainer = _trainer(job, settings, model, tokenizer, report)
    trainer.train()
    return out


def ours(name: str, rows: Rows, steps: list[list[int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """(d): Triptych's own training."""
    import torch

    from triptych.config.tune import TuneConfig
    from triptych.models import LoadedModel
    from triptych.models.norms import fuse_norms
    from triptych.prompts import Rendered
    from triptych.training import TuneRows, tune

    hold = "packed" if name == "ours-packed" else "dequantized"
    model = base(options.layers, hold)
    fuse_norms(model)
    info = {"quantize": "nf4", "weights_held": hold}
    loaded = LoadedModel(model, None, torch.bfloat16, torch.device("cuda"), 4096, "random", info)  # type: ignore[arg-type]
    config = TuneConfig(
        r=16,
        alpha=16,
        lr=1e-4,
        schedule="constant",
        warmup=0.0,
        batch_size=options.rows_per_step,
        tokens_per_pass=32768,
        max_steps=len(steps),
        eval_every=10**6,
        checkpoint_every=10**6,
        seed=0,
    )
    made = [Rendered(str(i), tuple(row["ids"]), row["n_prompt"], 1) for i, row in enumerate(rows)]
    folder = Path(tempfile.mkdtemp(prefix="ours-"))
    tune(loaded, TuneRows(made), config, folder, prompt="default")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = [0.0, *(line["seconds"] for line in log)]
    return [
        facts(rows, indices, line["loss"], after - before)
        for indices, line, before, after in zip(steps, log, ends, ends[1:], strict=False)
    ]


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
