"""The output head at scored positions only, in chunks of the vocabulary.

For hidden state h (C numbers) and target y, with l = post(W h) and l_y the target's own logit:

    nll = log sum_v exp(l_v - l_y)

The sum runs over vocabulary chunks in float32, so that no [tokens, vocabulary] tensor is ever made (for Gemma's 262,144
columns it would be a megabyte a token). Subtracting the target's logit instead of the maximum saves looking for the
maximum, and is done inside the product, before it is rounded to 16 bits: what is rounded is then small, and the
error with it. `post` is the model's own scaling or soft cap.

Should a logit exceed the target's by so much that exp overflows float32 (88 nats), the maximum is looked for after all.

Training needs d nll / d h = sum_v softmax_v W_v - W_y. The same pass carries that sum beside the other, so the backward
costs no second look at the vocabulary. The head is frozen: no gradient for W is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def head_chunk(device: str) -> tuple[int, int]:
    """Rows and vocabulary columns of one product with the head, on `cpu` or `cuda`.

    On a GPU four times as many of each: launching, not memory, is what is short there.
    """
    return (1024, 16_384) if device == "cuda" else (256, 4096)


@dataclass(frozen=True)
class Head:
    """W [V, C], optional bias [V], and what the model does to its logits."""

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0
    low_rank: tuple[Tensor, Tensor] | None = None
    """A [r, C] and s B [V, r] in float32 of a LoRA adapter on the head, if one is attached and on."""

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """NLL in nats, [N] float32, of targets [N]; hidden [N, C] in the model's dtype may need a gradient."""
        if torch.is_grad_enabled() and hidden.requires_grad:
            if self.low_rank is not None:
                raise NotImplementedError("no gradient is computed through an adapter on the output head")
            out: Tensor = _NLL.apply(hidden, targets, self)  # type: ignore[no-untyped-call]
            return out
        n, _ = head_chunk(self.weight.device.type)
        blocks = zip(torch.split(hidden, n), torch.split(targets, n), strict=True)
        return torch.cat([self._forward(h, y, None) for h, y in blocks])

    def nll_of_several(self, hidden: Tensor, at: Tensor, targets: Tensor) -> Tensor:
        """NLL in nats, [M] float32, of several targets of each state: targets [M] of the states hidden[at].

        The vocabulary is read once for each state [N, C]: nll_b = nll_a + (l_a - l_b) for two targets a, b of one
        state. Every state has a target, and `at` is ascending.
        """
        first = torch.searchsorted(at, torch.arange(len(hidden), device=at.device))
        blocks = zip(torch.split(at, 1024), torch.split(targets, 1024), strict=True)
        own = torch.cat([self._targets(hidden[a], y) for a, y in blocks])
        return (self.nll(hidden, targets[first]) + own[first])[at] - own

    def _post(self, raw: Tensor) -> Tensor:
        """float32 logits as the model would give them, in place."""
        if self.scale != 1.0:
            raw *= self.scale
        if self.softcap is not None:
            raw.div_(self.softcap).tanh_().mul_(self.softcap)
        return raw

    def logits(self, hidden: Tensor, columns: slice) -> Tensor:
        """[N, c] float32 logits of some vocabulary columns, as the model would give them."""
        raw = F.linear(hidden, self.weight[columns], None if self.bias is None else self.bias[columns]).float()
        if self.low_rank is not None:
            a, b = self.low_rank
            raw += F.linear(F.linear(hidden.float(), a), b[columns])
        return self._post(raw)

    def _above(self, hidden: Tensor, base: Tensor, columns: slice) -> Tensor:
        """[n, c] float32: logits of some vocabulary columns minus a base [n] (in the weights' dtype, as float32)."""
        weight = self.weight[columns]
        if self.bias is None and self.softcap is None and self.scale == 1.0 and self.low_rank is None:
            start = base.neg().to(weight.dtype)[:, None].expand(-1, weight.shape[0])
            return torch.addmm(start, hidden, weight.t()).float()
        return self.logits(hidden, columns).sub_(base[:, None])

    def _targets(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[n] float32: the logit of each target, without 16-bit rounding."""
        raw = (hidden.float() * self.weight[targets].float()).sum(1)
        if self.low_rank is not None:
            a, b = self.low_rank
            raw += (F.linear(hidden.float(), a) * b[targets]).sum(1)
        return self._post(raw if self.bias is None else raw + self.bias[targets].float())

    def _sum(self, hidden: Tensor, base: Tensor, gradient: Tensor | None) -> Tensor:
        """[n]: sum_v exp(l_v - base); with `gradient` [n, C] given, sum_v exp(l_v - base) W_v is added to it."""
        total = torch.zeros_like(base)
        for columns in self._chunks():
            above = self._above(hidden, base, columns)
            slope = None
            if gradient is not None and self.softcap is not None:
                slope = 1 - ((above + base[:, None]) / self.softcap) ** 2
            terms = above.exp_()
            total += terms.sum(1)
            if gradient is not None:
                share = terms if slope is None else terms * slope
                gradient += share.to(self.weight.dtype) @ self.weight[columns]
        return total

    def _chunks(self) -> list[slice]:
        size, (_, step) = self.weight.shape[0], head_chunk(self.weight.device.type)
        return [slice(at, min(at + step, size)) for at in range(0, size, step)]

    def _forward(self, hidden: Tensor, targets: Tensor, gradient: Tensor | None) -> Tensor:
        """nll [n]; with `gradient` [n, C] float32 given (zeros), d nll / d hidden is left in it."""
        at_target = self._targets(hidden, targets)
        base = at_target.to(self.weight.dtype).float()  # rounded as it will be inside the product
        total = self._sum(hidden, base, gradient)
        if not bool(torch.isfinite(total).all()):
            zero = torch.zeros_like(base)
            tops = [self._above(hidden, zero, columns).amax(1) for columns in self._chunks()]
            base = torch.stack(tops).amax(0).to(self.weight.dtype).float()
            if gradient is not None:
                gradient.zero_()
            total = self._sum(hidden, base, gradient)
        if gradient is not None:
            slope_y = 1.0 if self.softcap is None else (1 - (at_target / self.softcap) ** 2)[:, None]
            gradient.div_(total[:, None]).sub_(self.weight[targets].float() * slope_y).mul_(self.scale)
        return total.log() + base - at_target


class _NLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
        gradient = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        n, _ = head_chunk(head.weight.device.type)
        blocks = zip(torch.split(hidden, n), torch.split(targets, n), torch.split(gradient, n), strict=True)
        out = torch.cat([head._forward(h, y, g) for h, y, g in blocks])
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[0][:, None]).to(ctx.dtype), None, None


def head_of(model: Any) -> Head:
    """Read the head off a transformers model, with what adapters add to it now.

    Whether the reading is right is checked by the scorer's probe, against the model's own logits.
    """
    output = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if divisor := getattr(config, "logits_scaling", None):
        scale /= float(divisor)
    base, low_rank = output, None
    if hasattr(output, "lora_A"):
        base, low_rank = output.base_layer, _low_rank_of(output)
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(base.weight, getattr(base, "bias", None), softcap, scale, low_rank)


def _low_rank_of(layer: Any) -> tuple[Tensor, Tensor] | None:
    """A and s B of an adapted head."""
    if layer.disable_adapters:
        return None
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return a.float(), b.float() * layer.scaling[name]
