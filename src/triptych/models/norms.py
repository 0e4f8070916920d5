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

    What a norm computes is tried on random numbers in float32, not read off its name. One that computes something else
    (Gemma's multiply by 1 + weight) stays as it is.
    """
    fused = 0
    for module in model.modules():
        if not type(module).__name__.endswith("RMSNorm") or not isinstance(getattr(module, "weight", None), Tensor):
            continue
        settings = (getattr(module, name, None) for name in ("variance_epsilon", "eps"))
        eps = next((value for value in settings if isinstance(value, float)), None)
        if eps is not None and _is_plain(module, module.weight, eps):
            module.forward = MethodType(_forward, module)
            module._triptych_eps = eps
            fused += 1
    return fused


def _forward(module: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), module.weight, module._triptych_eps)


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
