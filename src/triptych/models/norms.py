"""RMS norms (Zhang and Sennrich 2019, arXiv 1910.07467) by torch's one kernel instead of six, on GPUs.

transformers writes them out: to float32, square, mean, root, multiply, back to 16 bits, multiply with the weight. Each
is a pass over memory: by count some 15 ms of a step of Llama's 7B shape (docs/experiments.md, 13).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fuse_norms(model: Any) -> int:
    """Let each norm that multiplies by its weight as it stands be computed by the kernel; returns how many.

    What a norm computes isn't read off its name: it is asked, on random numbers in float32. One that computes something
    else (Gemma's multiply by 1 + weight) stays as it is.
    """
    fused = 0
    for module in model.modules():
        weight, eps = getattr(module, "weight", None), _eps_of(module)
        if type(module).__name__.endswith("RMSNorm") and isinstance(weight, Tensor) and eps is not None:
            if not _is_plain(module, weight, eps):
                continue
            module.forward = MethodType(_forward, module)
            module._triptych_eps = eps
            fused += 1
    return fused


def _forward(module: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), module.weight, module._triptych_eps)


def _eps_of(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps"):
        if isinstance(value := getattr(module, name, None), float):
            return value
    return None


@torch.no_grad()
def _is_plain(module: nn.Module, weight: Tensor, eps: float) -> bool:
    if weight.dim() != 1:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, weight.shape[0], generator=generator).to(weight.device)
    other = torch.randn(weight.shape, generator=generator).to(weight.device)  # ones would look like any weight
    own = weight.data
    try:
        weight.data = other
        result = module(x)
    finally:
        weight.data = own
    return bool(torch.allclose(result, F.rms_norm(x, (x.shape[-1],), other, eps), rtol=1e-4, atol=1e-5))
