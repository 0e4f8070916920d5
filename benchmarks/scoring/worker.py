"""The side of a contestant: load once, then score cells on request. Lines of JSON in, lines of JSON out.

Run as `python worker.py reference|lmeval|ours MODEL THREADS DTYPE`. Only one contestant works at a time; the others
wait on their standard input, so interleaved repeats need no reloading. Needs nothing of Triptych except for `ours`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Request = dict[str, Any]
Score = Callable[[list[Request]], list[float]]


def reference(folder: str, dtype: str) -> Score:
    """(a) One row at a time, whole logits in float32, cross-entropy at every position, then the mask (protocol hw3)."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def score(requests: list[Request]) -> list[float]:
        found = []
        for request in requests:
            ids = torch.tensor([request["ids"]])
            logits = model(ids, use_cache=False).logits[0, :-1].float()
            nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            mask = torch.arange(1, ids.shape[1]) >= request["n_prompt"]
            found.append((nll * mask).sum().item())
        return found

    return score


def lmeval(folder: str, dtype: str) -> Score:
    """(b) lm-eval's `hf` backend through `loglikelihood`, the same strings, the fastest of several batch sizes."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=folder, dtype=dtype, device="cpu", batch_size=1, max_length=4096)
    chosen: dict[str, int] = {}

    def run(requests: list[Request], batch_size: int) -> list[float]:
        lm.batch_size_per_gpu = batch_size
        instances = [
            Instance("loglikelihood", {}, (request["context"], request["continuation"]), index)
            for index, request in enumerate(requests)
        ]
        return [-logprob for logprob, _ in lm.loglikelihood(instances, disable_tqdm=True)]

    def score(requests: list[Request]) -> list[float]:
        # `auto` tries 64 rows of the longest first, which on a CPU doesn't fail but takes all memory
        cell = requests[0]["cell"]
        if cell not in chosen:
            timed = {}
            for size in (1, 4, 8, 16):
                if size * max(len(r["ids"]) for r in requests) <= 4096:  # 4 GB of float32 logits
                    began = time.perf_counter()
                    run(requests[:12], size)
                    timed[size] = time.perf_counter() - began
            chosen[cell] = min(timed, key=lambda size: timed[size])
        return run(requests, chosen[cell])

    score.chosen = chosen  # type: ignore[attr-defined]
    return score


def ours(folder: str, dtype: str) -> Score:
    """(c) Triptych's scorer."""
    from triptych.config.model import ModelConfig
    from triptych.likelihood.score import Scorer
    from triptych.models import load_model
    from triptych.prompts import Rendered

    threads = int(os.environ["OMP_NUM_THREADS"])
    scorer = Scorer(load_model(ModelConfig(name=folder, quantize="none", dtype=dtype, threads=threads)))

    def score(requests: list[Request]) -> list[float]:
        rows = [Rendered(str(i), tuple(r["ids"]), r["n_prompt"], 1) for i, r in enumerate(requests)]
        return [nll.nll_nats for nll in scorer.score(rows)]

    return score


def main() -> None:
    """Answer requests until the input ends."""
    kind, folder, threads, dtype = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = threads
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    import torch

    torch.set_num_threads(int(threads))
    score = {"reference": reference, "lmeval": lmeval, "ours": ours}[kind](folder, dtype)
    print(json.dumps({"ready": kind}), file=answers, flush=True)
    for line in sys.stdin:
        requests = json.loads(line)
        if kind == "lmeval" and requests[0]["cell"] not in score.chosen:  # type: ignore[attr-defined]
            score(requests[:12])  # the cell's first call chooses the batch size, outside the timing
        began = time.perf_counter()
        nll = score(requests)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        batch = getattr(score, "chosen", {}).get(requests[0]["cell"])
        answer = {"seconds": seconds, "nll": nll, "peak_bytes": peak, "batch_size": batch}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
