"""lm-eval's side of `bench-choices`: a multiple-choice task of its own, through its own API, on one thread.

Run as `python worker.py FOLDER DTYPE SIZES`; the folder holds the model and task.jsonl. Needs nothing of Triptych.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MOST_TOKENS = 8192
"""Of a batch: float32 logits of 49,152 words take 200 kB a token."""


def main() -> None:
    folder, dtype, tried = Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3].split(",")]
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    import torch

    torch.set_num_threads(1)
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    lines = (folder / "task.jsonl").read_text(encoding="utf-8").splitlines()
    few = folder / "few.jsonl"
    few.write_text(lines[0], encoding="utf-8")
    lm = HFLM(pretrained=str(folder), dtype=dtype, device="cpu", batch_size=1, max_length=8192)

    def run(file: Path, size: int) -> tuple[float, list[dict[str, Any]]]:
        lm.batch_size_per_gpu = size
        task = ConfigurableTask(
            config={
                "task": "intents",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(file)}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{context}}",
                "doc_to_choice": "{{options}}",
                "doc_to_target": "{{gold}}",
                "target_delimiter": "",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
        )
        began = time.perf_counter()
        found = evaluate(lm, {"intents": task}, log_samples=True, bootstrap_iters=0)
        return time.perf_counter() - began, found["samples"]["intents"]

    longest = max(len(json.loads(line)["context"]) for line in lines) // 3
    sizes = [size for size in tried if size * longest <= MOST_TOKENS] or [min(tried)]
    best = min(sizes, key=lambda size: run(few, size)[0]) if len(sizes) > 1 else sizes[0]
    seconds, samples = run(folder / "task.jsonl", best)
    samples.sort(key=lambda sample: sample["doc_id"])
    found = {name: [float(sample[name]) for sample in samples] for name in ("acc", "acc_norm")}
    print(json.dumps({"seconds": seconds, "batch": best, **found}))


if __name__ == "__main__":
    main()
