"""The plain reference scorer, written straight from protocol hw3 and from nothing of Triptych's engine.

One row at a time, the model's own forward, whole logits, no cache, no batch, no padding.
"""

from __future__ import annotations

import math
from typing import Any

import torch

__all__ = ["reference_nll"]


@torch.no_grad()
def reference_nll(model: Any, tokenizer: Any, prompt: str, output: str, *, device: str = "cpu") -> list[float]:
    """NLL in nats of each output token and of EOS."""
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    output_ids = tokenizer(output, add_special_tokens=False)["input_ids"]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = [*bos, *prompt_ids, *output_ids, tokenizer.eos_token_id]
    mask = [0] * (len(bos) + len(prompt_ids)) + [1] * (len(output_ids) + 1)
    logits = model(torch.tensor([ids], device=device), use_cache=False).logits[0].float()
    nll = []
    for position, token in enumerate(ids):
        if mask[position]:
            row = logits[position - 1]
            nll.append((torch.logsumexp(row, 0) - row[token]).item())
    assert not any(map(math.isnan, nll))
    return nll
