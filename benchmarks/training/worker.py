"""The side of a framework: carry out one job. Standard output gets a line of JSON for each step and one at the end.

Run as `python worker.py plain|trl|ours JOB.json THREADS SETTINGS`. Only `ours` needs Triptych; the others run in an
environment with their own packages. The time of a step is from its first forward to the optimizer's update.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Report = Callable[[float, float], None]
"""Called after each step with its loss (mean nats per scored token) and its seconds."""


def main() -> None:
    """Read the job, train, report."""
    kind, path, threads, given = sys.argv[1:]
    settings = json.loads(given)
    os.environ["OMP_NUM_THREADS"] = threads
    out, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    import torch
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    torch.set_num_threads(int(threads))
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    steps = 0

    def report(loss: float, seconds: float) -> None:
        nonlocal steps
        rows = [job["rows"][i] for i in job["steps"][steps]]
        record = {
            "step": steps,
            "loss": loss,
            "seconds": seconds,
            "n_tokens": sum(len(row["ids"]) for row in rows),
            "n_scored": sum(len(row["ids"]) - row["n_prompt"] for row in rows),
        }
        print(json.dumps(record), file=out, flush=True)
        steps += 1

    notes = {"plain": plain, "trl": trl, "ours": ours}[kind](job, settings, report)
    assert steps == len(job["steps"]), f"{steps} steps done of {len(job['steps'])}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, **notes}), file=out, flush=True)


def quantized_base(folder: str, attention: str | None = None, *, compute: str = "bfloat16") -> Any:
    """The published weights in NF4 with double quantization."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, compute),
    )
    return AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=config,
        dtype=torch.bfloat16,
        device_map={"": "cpu"},
        attn_implementation=attention,
    )


def padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Padded on the right, labels -100 on prompt and padding."""
    import torch

    width = max(len(row["ids"]) for row in rows)
    ids, labels, mask = [], [], []
    for row in rows:
        rest = width - len(row["ids"])
        ids.append([*row["ids"], *[0] * rest])
        labels.append([*[-100] * row["n_prompt"], *row["ids"][row["n_prompt"] :], *[-100] * rest])
        mask.append([1] * len(row["ids"]) + [0] * rest)
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}


def plain(job: Job, settings: dict[str, Any], report: Report) -> dict[str, Any]:
    """(a) The loop that public solutions write: peft's preparation for k-bit training, autocast, accumulated batches.

    Computes in what this machine multiplies fastest: bfloat16 under autocast, or float32. Batches of 4, accumulated.
    Each is divided by the scored tokens of the whole step, as transformers' Trainer does; dividing by the number of
    batches, as older loops do, is another function wherever these have different numbers of tokens.
    """
    import torch
    from peft import PeftModel, prepare_model_for_kbit_training

    dtype = job["bases"]["dtype"]
    base = prepare_model_for_kbit_training(quantized_base(job["bases"]["plain"], compute=dtype))
    base.config.use_cache = False
    model = PeftModel.from_pretrained(base, job["start"], is_trainable=True)
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=job["lr"], weight_decay=0.0)
    size = settings.get("batch_size", 4)
    for indices, rate in zip(job["steps"], job["rates"], strict=True):
        rows = [job["rows"][i] for i in indices]
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate
        batches = [padded(rows[at : at + size]) for at in range(0, len(rows), size)]
        scored = sum((batch["labels"] != -100).sum() for batch in batches)
        total = 0.0
        for batch in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = model(**batch, num_items_in_batch=scored).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trainable, job["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        report(total, time.perf_counter() - began)
    return {}


def trl(job: Job, settings: dict[str, Any], report: Report) -> dict[str, Any]:
    """(b), (c) TRL's SFTTrainer; what `settings` leaves out is TRL's default."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if settings.get("fp32_products_in_bf16"):
        torch.set_float32_matmul_precision("medium")
    if settings.get("scored_positions_only"):
        _let_trl_skip_masked_positions()
    folder = job["bases"]["plain" if settings["base"] == "nf4" else "dequantized"]
    attention = settings.get("attention")
    if settings["base"] == "nf4":
        base = quantized_base(folder, attention)
    else:
        dtype = getattr(torch, job["bases"]["dtype"])
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
    model = PeftModel.from_pretrained(base, job["start"], is_trainable=True)
    tokenizer = AutoTokenizer.from_pretrained(job["bases"]["dequantized"])
    trainer = _trainer(job, settings, model, tokenizer, report)
    trainer.train()
    if "adapter" in job:
        trainer.model.save_pretrained(job["adapter"])
    trained = {str(p.dtype) for p in model.parameters() if p.requires_grad}
    return {"adapter_dtype": sorted(trained), "optimizer": type(trainer.optimizer).__name__}


def _trainer(job: Job, settings: dict[str, Any], model: Any, tokenizer: Any, report: Report) -> Any:
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Timed(SFTTrainer):  # type: ignore[misc]
        """The job's rates instead of a named schedule; keeps each step's loss."""

        step_loss = 0.0

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            factors = [rate / job["lr"] for rate in job["rates"]] + [0.0]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: factors[step]
            )
            return self.lr_scheduler

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            self.step_loss += loss.item()  # a sum over the step's tokens divided by their number: the parts add up
            return loss

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Times the steps."""

        began = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            report(trainer.step_loss, time.perf_counter() - self.began)
            trainer.step_loss = 0.0

    rows_per_step = len(job["steps"][0])
    # TRL's default is 8 rows a batch: accumulated until the step has its rows
    per_batch = min(settings.get("batch_size", 8), rows_per_step)
    assert all(len(step) == rows_per_step for step in job["steps"]), "TRL can't vary the rows of a step"
    assert rows_per_step % per_batch == 0, f"{rows_per_step} rows are not made up of batches of {per_batch}"
    order = [i for step in job["steps"] for i in _arranged(job, step, settings)]
    rows = [job["rows"][i] for i in order]
    labels = [[*[-100] * row["n_prompt"], *row["ids"][row["n_prompt"] :]] for row in rows]
    options = {
        "output_dir": tempfile.mkdtemp(prefix="trl-"),
        "per_device_train_batch_size": per_batch,
        "gradient_accumulation_steps": rows_per_step // per_batch,
        "num_train_epochs": 1,
        "learning_rate": job["lr"],
        "max_grad_norm": job["max_grad_norm"],
        "train_sampling_strategy": "sequential",  # the rows come in the job's order
        "max_length": None,  # none is longer than the protocol allows
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": job["seed"],
    }
    config = SFTConfig(**{**options, **settings.get("config", {})})
    dataset = Dataset.from_dict({"input_ids": [row["ids"] for row in rows], "labels": labels})
    trainer = Timed(model=model, args=config, train_dataset=dataset, processing_class=tokenizer, callbacks=[Clock()])
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arranged(job: Job, step: list[int], settings: dict[str, Any]) -> list[int]:
    """The rows of a step, sorted by length where asked: within a step the order changes nothing but padding."""
    if not settings.get("sorted"):
        return step
    return sorted(step, key=lambda i: -len(job["rows"][i]["ids"]))


def _let_trl_skip_masked_positions() -> None:
    """Not a setting: on a CPU, TRL 1.16 multiplies every position with the vocabulary and masks the result.

    On GPUs it takes only the positions whose label isn't -100, and decides so by a function that we answer for it.
    The loss is the same, since what is masked counts zero.
    """
    import trl.trainer.utils as module

    assert hasattr(module, "_use_triton"), "TRL has changed: look at add_fused_lm_head"
    module._use_triton = lambda device: True


def ours(job: Job, settings: dict[str, Any], report: Report) -> dict[str, Any]:
    """(d) Triptych's own training loop, which draws the same rows and the same adapter from the same seed."""
    import tempfile
    from collections.abc import Iterator
    from contextlib import contextmanager

    from triptych.config.model import ModelConfig
    from triptych.config.tune import TuneConfig
    from triptych.models import load_model
    from triptych.progress import Advance, Silent
    from triptych.prompts import Rendered
    from triptych.training import TuneRows, tune
    from triptych.training.step import rows_of_step

    rows = [Rendered(str(i), tuple(row["ids"]), row["n_prompt"], 1) for i, row in enumerate(job["rows"])]
    config = TuneConfig.model_validate({**job["tune"], "max_steps": len(job["steps"])})
    for step, indices in enumerate(job["steps"]):
        assert rows_of_step(step, len(rows), config.rows_per_step, config.seed) == indices
    threads = int(os.environ["OMP_NUM_THREADS"])
    base, dtype = job["bases"]["plain"], job["bases"]["dtype"]
    loaded = load_model(ModelConfig(name=base, quantize="nf4", dtype=dtype, hold=settings["hold"], threads=threads))
    folder = Path(tempfile.mkdtemp(prefix="ours-"))

    class FromLog(Silent):
        """Reports each step when it has been logged."""

        before = 0.0

        @contextmanager
        def task(self, title: str, total: int, *, done: int = 0, unit: str = "rows") -> Iterator[Advance]:
            yield self.logged if unit == "steps" else lambda _: None

        def logged(self, n: int) -> None:
            line = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
            report(line["loss"], line["seconds"] - self.before)
            self.before = line["seconds"]

    tune(loaded, TuneRows(rows), config, folder, prompt="default", reporter=FromLog())
    return {"weights_held": loaded.info["weights_held"]}


if __name__ == "__main__":
    main()
