"""How fast this machine multiplies matrices: the bound that models stay under."""

from __future__ import annotations

import time

import torch

from triptych.config.choices import DtypeName
from triptych.models.device import DTYPES


def matmul_rate(device: torch.device, dtype: DtypeName, *, seconds: float = 0.3) -> float:
    """Operations a second of a product of a transformer layer's shape, timed for about `seconds`."""
    generator = torch.Generator().manual_seed(0)
    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, generator=generator).to(device, DTYPES[dtype])
    b = torch.randn(2 * size, size, generator=generator).to(device, DTYPES[dtype])

    def once() -> None:
        torch.nn.functional.linear(a, b)

    once()  # the first one warms up
    _wait(device)
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for _ in range(4):
            once()
        _wait(device)
        done += 4
    spent = time.perf_counter() - began
    return done * 2.0 * size * size * 2 * size / spent


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
