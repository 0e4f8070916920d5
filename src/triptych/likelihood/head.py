"""The output head at scored positions only, in chunks of the vocabulary.

For hidden state h (C numbers) and target y:     nll = log sum_v exp(l_v) - l_y,     l = post(W h)

The sum runs over vocabulary chunks with a running maximum, in float32, so that no [tokens, vocabulary] tensor is ever
made (for Gemma's 262,144 columns it would be a megabyte a token). `post` is the model's own scaling or soft cap.

Training needs d nll / d h = sum_v softmax_v W_v - W_y. The same pass can carry that sum, rescaled when the maximum
moves (as FlashAttention carries its output), so the backward costs no second look at the vocabulary. The head is
frozen: no gradient for W is formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Head", "head_of"]

_CHUNK_COLUMNS = 4096
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Head:
    """W [V, C], optional bias [V], and what the model does to its logits."""

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood in nats of each target.

        Args:
            hidden: [N, C], in the model's dtype; may need a gradient.
            targets: [N] token ids.

        Returns:
            [N] float32.
        """
        if torch.is_grad_enabled() and hidden.requires_grad:
            out: Tensor = _NLL.apply(hidden, targets, self)  # type: ignore[no-untyped-call]
            return out
        blocks = zip(torch.split(hidden, _BLOCK_ROWS), torch.split(targets, _BLOCK_ROWS), strict=True)
        return torch.cat([self._forward(h, y, None) for h, y in blocks])

    def logits(self, hidden: Tensor, columns: slice) -> Tensor:
        """[N, c] float32 logits of some vocabulary columns, as the model would give them."""
        raw = F.linear(hidden, self.weight[columns], None if self.bias is None else self.bias[columns]).float()
        if self.scale != 1.0:
            raw *= self.scale
        if self.softcap is not None:
            raw.div_(self.softcap).tanh_().mul_(self.softcap)
        return raw

    def _forward(self, hidden: Tensor, targets: Tensor, gradient: Tensor | None) -> Tensor:
        """nll [n]; with `gradient` [n, C] float32 given (zeros), d nll / d hidden is left in it."""
        n = hidden.shape[0]
        top = hidden.new_full((n,), float("-inf"), dtype=torch.float32)
        total = torch.zeros_like(top)
        at_target = torch.zeros_like(top)
        for start in range(0, self.weight.shape[0], _CHUNK_COLUMNS):
            columns = slice(start, min(start + _CHUNK_COLUMNS, self.weight.shape[0]))
            logits = self.logits(hidden, columns)
            inside = (targets >= columns.start) & (targets < columns.stop)
            local = (targets - columns.start).clamp(0, logits.shape[1] - 1)
            picked = logits.gather(1, local[:, None]).squeeze(1)
            at_target = torch.where(inside, picked, at_target)
            new_top = torch.maximum(top, logits.amax(1))
            shrink = (top - new_top).exp()
            slope = None if gradient is None or self.softcap is None else 1 - (logits / self.softcap) ** 2
            exponentials = logits.sub_(new_top[:, None]).exp_()
            total.mul_(shrink).add_(exponentials.sum(1))
            if gradient is not None:
                share = exponentials if slope is None else exponentials * slope
                gradient.mul_(shrink[:, None]).add_(share.to(self.weight.dtype) @ self.weight[columns])
            top = new_top
        if gradient is not None:
            slope_y = 1.0 if self.softcap is None else (1 - (at_target / self.softcap) ** 2)[:, None]
            gradient.div_(total[:, None]).sub_(self.weight[targets].float() * slope_y).mul_(self.scale)
        return top + total.log() - at_target


class _NLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
        gradient = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        blocks = zip(
            torch.split(hidden, _BLOCK_ROWS),
            torch.split(targets, _BLOCK_ROWS),
            torch.split(gradient, _BLOCK_ROWS),
            strict=True,
        )
        out = torch.cat([head._forward(h, y, g) for h, y, g in blocks])
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[0][:, None]).to(ctx.dtype), None, None


def head_of(model: Any) -> Head:
    """Read the head off a transformers model. Whether the reading is right is checked by the scorer's probe."""
    output = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if divisor := getattr(config, "logits_scaling", None):
        scale /= float(divisor)
    return Head(output.weight, getattr(output, "bias", None), getattr(config, "final_logit_softcapping", None), scale)
