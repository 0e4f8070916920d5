"""The arithmetic of an adapted layer, and which layers are adapted.

    y = W x + s B A x        W frozen; A: (r, in), B: (out, r), both float32; s: scaling

peft would cast x to the adapter's float32 and compute A x and B A x there. With bfloat16 weights we cast A and B
instead, which are small: the usual mixed precision (master weights in float32, products in bfloat16) without copying
activations. In float32 the two are the same. DoRA (Liu et al. 2024) is left to peft's own forward.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.models.quantize import is_linear

NAME = "default"
_CAST, _LAYERS = "_triptych_cast", "_triptych_lora_layers"
_CAN_KEEP_FLOAT = hasattr(torch.ops.aten.mm, "dtype")  # torch 2.8 and later


def lora_layers(model: Any) -> list[Any]:
    """The adapted layers of a model, in the model's order."""
    if (remembered := vars(model).get(_LAYERS)) is not None:
        return remembered  # type: ignore[no-any-return]
    if "peft" not in sys.modules:  # importing it takes seconds, and without it no layer is adapted
        return []
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def remember_layers(*models: Any) -> None:
    """Find the adapted layers once: walking the thousands of modules of a large model takes milliseconds each step."""
    for model in models:
        forget_layers(model)
        vars(model)[_LAYERS] = lora_layers(model)


def forget_layers(model: Any) -> None:
    """Search for the adapted layers again from now on."""
    vars(model).pop(_LAYERS, None)


def compute_in_input_dtype(model: Any) -> None:
    """Let the adapted layers of a model compute as described above."""
    for layer in lora_layers(model):
        b = getattr(layer, "lora_B", {})
        # DoRA, biases of B, adapted embeddings, experts and the like keep peft's own forward
        if wraps_plain_linear(layer) and not layer.lora_variant and NAME in b and b[NAME].bias is None:
            layer.forward = MethodType(_lora_forward, layer)


def wraps_plain_linear(layer: Any) -> bool:
    """Whether an adapted layer computes W x + s B A x of a linear layer: peft adapts routed experts and routers too."""
    base = layer.base_layer
    if not is_linear(base):
        return False
    if type(layer).__name__ == "ParamWrapper":  # a linear layer that is named by its weight (`targets`)
        return bool(layer.parameter_name == "weight" and type(base) is nn.Linear)
    return type(layer).__name__ in ("Linear", "Linear4bit", "Linear8bitLt")


def _lora_forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """(..., in) -> (..., out): the base layer's output plus the adapter's, computed in x's dtype."""
    base = layer.base_layer
    if layer.disable_adapters:
        return base(x, *args, **kwargs)  # type: ignore[no-any-return]
    dropout = layer.lora_dropout[NAME]
    a, b, scale = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight, layer.scaling[NAME]
    if type(base) is nn.Linear and base.weight.dtype == x.dtype and not (dropout.training and getattr(dropout, "p", 0)):
        low = layer.__dict__.get(_CAST) or (a.to(x.dtype), (b if scale == 1.0 else b * scale).to(x.dtype))
        out: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, *low, scale)  # type: ignore[no-untyped-call]
        return out
    result: Tensor = base(x, *args, **kwargs)
    return result + F.linear(F.linear(dropout(x), a.to(x.dtype)), (b * scale).to(x.dtype)).to(result.dtype)


@contextmanager
def cast_once(model: Any) -> Iterator[None]:
    """Inside, the adapter's weights don't change: cast all of them to the products' dtype at once, not each at its use.

    It saves a GPU about a thousand small launches a step. In float32 there is nothing to cast.
    """
    layers = [
        layer
        for layer in lora_layers(model)
        if type(layer.base_layer) is nn.Linear and layer.base_layer.weight.dtype != torch.float32
    ]
    weights = [part for layer in layers for part in (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)]
    with torch.no_grad():
        low = [torch.empty_like(part, dtype=layers[0].base_layer.weight.dtype) for part in weights]
        if weights:
            torch._foreach_copy_(low, weights)
        for layer, b in zip(layers, low[1::2], strict=True):
            if (scale := layer.scaling[NAME]) != 1.0:
                b.copy_(layer.lora_B[NAME].weight * scale)
    for at, layer in enumerate(layers):
        layer.__dict__[_CAST] = (low[2 * at], low[2 * at + 1])
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__[_CAST]


class _LoraLinear(torch.autograd.Function):
    """W x + s B A x with the adapter's products added inside matrix products, and their gradients likewise.

    As autograd would do it, every adapted layer makes a [T, out] tensor to add to W x, and in the backward a [T, in]
    one to add to W's share; here they are the accumulators of one product.

        backward, from g = d/dy:   d/dx = g W + (g sB) A      d/dA = (g sB)^T x      d/dB = s g^T (A x)

    The gradients are those of the parameters, `a` and `b`; multiplied are A and s B in x's dtype, `low_a` and `low_b`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        low_a: Tensor,
        low_b: Tensor,
        scale: float,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = F.linear(flat, low_a)
        out = F.linear(flat, weight, bias).addmm_(inner, low_b.t())
        ctx.save_for_backward(flat, inner, weight, low_a, low_b)
        ctx.scale, ctx.shape = scale, x.shape
        # no view: models that work on it in place (OLMo's clamp) may
        return torch.ops.aten._unsafe_view(out, [*x.shape[:-1], out.shape[-1]])  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner, weight, a, b = ctx.saved_tensors
        gradient = upstream[0].reshape(-1, weight.shape[0])
        at_inner = gradient @ b
        of_x = (gradient @ weight).addmm_(at_inner, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_a, of_b = _float_mm(at_inner.t(), flat), _float_mm(gradient.t(), inner)
        return of_x, None, None, of_a, of_b if ctx.scale == 1.0 else of_b * ctx.scale, None, None, None


def _float_mm(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product in float32. GPUs sum in float32 anyway, and can be asked not to round it."""
    if _CAN_KEEP_FLOAT and left.device.type == "cuda" and left.dtype != torch.float32:
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()
