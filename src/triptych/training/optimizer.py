"""AdamW over an adapter's parameters, with the learning rate of B apart where LoRA+ asks for it."""

from __future__ import annotations

import math

import torch

from triptych.config.tune import TuneConfig
from triptych.models import Adapter


def adamw(adapter: Adapter, config: TuneConfig) -> torch.optim.AdamW:
    """The optimizer of a training.

    LoRA+ (Hayou et al. 2024, arXiv 2402.12354, section 5) lets B learn `lora_plus_ratio` times as fast as A. DoRA's
    magnitudes, which the paper doesn't know, learn as fast as A.
    """
    ratio = config.lora_plus_ratio or 1.0
    of_b = [p for name, p in adapter.parameters().items() if ".lora_B." in name]
    rest = [p for name, p in adapter.parameters().items() if ".lora_B." not in name]
    # one group where all are alike: nothing but the rate may differ between the two
    groups = [(rest, 1.0), (of_b, ratio)] if ratio != 1.0 else [(list(adapter.parameters().values()), 1.0)]
    return torch.optim.AdamW(
        [{"params": parameters, "ratio": times} for parameters, times in groups],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of the next step; groups keep their ratio to it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["ratio"]


def learning_rate(config: TuneConfig, step: int, total: int) -> float:
    """Rate of optimizer step `step` (from 0) of `total`: linear warm-up to `lr`, then the schedule, to zero at the end.

    The same shapes as transformers' schedulers of the same names.
    """
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.lr * step / max(1, warmup) if warmup > 1 else config.lr
    progress = (step - warmup) / max(1, total - warmup)
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr
