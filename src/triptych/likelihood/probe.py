"""Whether a model can be computed packed. Nothing is assumed of an architecture; three things are tried.

    rows don't meet     on the model itself: other rows' text changes, all shapes stay, and a row keeps its likelihood
                        to the bit
    the mathematics     on a small float32 copy of its configuration, where rounding hides nothing: packed passes give
                        what the copy's own forward gives, also for a row behind two prefixes
    the output head     on the model's own hidden states: what is read off the head gives the model's own logits

Closeness to the model's own forward alone would not do: in 16 bits rounding moves an NLL by as much as a weak leak.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from triptych.errors import ModelError
from triptych.likelihood.context import PrefixKV, Unsupported
from triptych.likelihood.found import key_of, remember, remembered
from triptych.likelihood.head import head_of
from triptych.likelihood.passes import own_states, pass_nll, prefix_kv
from triptych.models import LoadedModel
from triptych.models.library_errors import reason_of
from triptych.models.quantize import computes_in_int8, routed_experts
from triptych.models.rope import rope_limit
from triptych.models.shape import largest
from triptych.models.small_copy import small_copy
from triptych.prompts import Rendered

logger = logging.getLogger(__name__)

_CANNOT = (Unsupported, AttributeError, LookupError, NotImplementedError, TypeError, RuntimeError)
"""What an architecture raises whose attention, positions or outputs are not as assumed here."""

_FLOAT32 = 1e-3
"""Nats a token that two ways to compute a float32 model may differ by."""
_SIXTEEN_BITS = 0.05
"""Share of the NLL that they may differ by in 16 bits: rounding moves these random tokens by about 1 %."""
_COPY = 1e-4
"""Nats a token, at most, on the small copy."""
_LONGEST = 2048
"""Positions that are in reach of the probe's rows."""
_LAST = 8
"""Positions whose logits are compared."""

_off_by: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Trial:
    """A way to compute two rows together, and the rows on which it is tried."""

    name: str
    run: Callable[[LoadedModel, list[Rendered], int, PrefixKV], list[Tensor]]
    """(model, rows, length of their prefix, keys and values of some of it) -> NLL of each row's scored tokens."""
    prompts: tuple[int, int]
    """Prompt tokens of each row beyond the prefix."""
    scored: tuple[int, int]
    compared: int
    """Rows that are compared with the model's own forward, the first ones."""

    def rows(self, loaded: LoadedModel, change: int | None = None) -> tuple[int, list[Rendered]]:
        """The length of a prefix and two rows behind it; row `change` has another text of the same length."""
        config: Any = loaded.model.config.get_text_config()
        limit = min(loaded.max_tokens or _LONGEST, loaded.rope_limit or _LONGEST)
        n_prefix = _prefix_tokens(largest(config, "sliding_window", default=0), limit)
        usable = min(largest(config, "vocab_size", default=300), 50_000)

        def ids(n: int, step: int) -> tuple[int, ...]:
            return tuple((i * step + 17) % usable for i in range(n))

        prefix = ids(n_prefix, 7919)
        return n_prefix, [
            Rendered(f"probe {at}", prefix + ids(n + m, 31 + 26 * at + 100 * (at == change)), n_prefix + n, 1)
            for at, (n, m) in enumerate(zip(self.prompts, self.scored, strict=True))
        ]


def _prefix_tokens(window: int, limit: int) -> int:
    """Length of the rows' prefix: longer than the sliding window if there is one in reach."""
    return window + 8 if window + 64 < min(limit, _LONGEST) else 24


def probe_tokens(window: int | None, limit: int | None) -> int:
    """Most tokens of a row that the scorer tries a model with, whole logits included: for estimates of memory."""
    rows = zip(_PACKED.prompts, _PACKED.scored, strict=True)
    return _prefix_tokens(window or 0, limit or _LONGEST) + max(map(sum, rows))


def can_be_packed(loaded: LoadedModel) -> bool:
    """Try whether rows can be computed side by side behind a shared prefix; if not, warn and say why.

    Raises:
        ModelError: the model's own forward fails, or it is not causal: then no likelihood of a text can be had from it.
    """
    reason = why_not(loaded, _PACKED)
    if reason:
        logger.warning("this model can't be computed packed (%s): rows are scored one by one", reason)
    return not reason


def why_not(loaded: LoadedModel, trial: Trial) -> str | None:
    """Why rows of this model can't be computed together; None if they can. Raises ModelError as `can_be_packed`.

    Tried once: what was found is remembered (`found`).
    """
    key = key_of(loaded, trial.name, trial.run)
    if key is not None and (finding := remembered(key)) is not None:
        return finding[0]
    reason, lasting = _try(loaded, trial)
    if key is not None and lasting:
        remember(key, reason)
    return reason


@torch.inference_mode()
def _try(loaded: LoadedModel, trial: Trial) -> tuple[str | None, bool]:
    """Why not, and whether the same would be found again: an error of torch itself may be one of memory or system."""
    require_causal(loaded)
    if computes_in_int8(loaded.model):
        return "int8 products depend on all rows of a pass", True
    try:
        _on_itself(loaded, trial)
        _on_small_copy(loaded, trial)
    except _CANNOT as error:
        return reason_of(error), not isinstance(error, RuntimeError) or isinstance(error, NotImplementedError)
    return None, True


def _on_itself(loaded: LoadedModel, trial: Trial) -> None:
    """Two rows together, and again with the other's text changed."""
    n_prefix, rows = trial.rows(loaded)
    theirs = torch.cat([own_nll(loaded, row) for row in rows[: trial.compared]])
    past = prefix_kv(loaded, rows[0].ids[:n_prefix], None)
    ours = trial.run(loaded, rows, n_prefix, past)
    moved = 0.0
    for changed in (0, 1):
        others = trial.run(loaded, trial.rows(loaded, changed)[1], n_prefix, past)
        moved = max(moved, (others[1 - changed] - ours[1 - changed]).abs().max().item())
    # products of routed experts depend on the number of tokens an expert gets: there rounding may move, and no more
    if not moved <= (_allowed(loaded, theirs) if routed_experts(loaded.model) else 0.0):
        raise Unsupported(f"a row's likelihood moves by {moved:.3g} nats a token with the text of the row beside it")
    require_close(loaded, torch.cat(ours[: trial.compared]), theirs)


def _packed(loaded: LoadedModel, rows: list[Rendered], n_prefix: int, past: PrefixKV) -> list[Tensor]:
    nll = pass_nll(loaded, head_of(loaded.model), rows, n_prefix, past)
    return list(torch.split(nll, [row.n_scored for row in rows]))


_PACKED = Trial("packed", _packed, prompts=(2, 2), scored=(16, 29), compared=1)


def own_nll(loaded: LoadedModel, row: Rendered) -> Tensor:
    """NLL of a row's scored tokens by the model's own forward, but with the output head that packed rows get."""
    hidden, logits = own_states(loaded, row.ids, _LAST)
    targets = torch.tensor(row.ids[1:], device=hidden.device)
    head = head_of(loaded.model)
    if hidden.shape != (len(row.ids), head.weight.shape[1]):
        raise Unsupported("its decoder's hidden states can't be found")
    nll = head.nll(hidden[:-1], targets)
    last = -logits[:-1].float().log_softmax(-1).gather(1, targets[1 - _LAST :, None]).squeeze(1)
    off = (nll[1 - _LAST :] - last).abs().max().item()
    # logits are rounded to the model's dtype
    if not off <= max(_FLOAT32, 2 * torch.finfo(loaded.dtype).eps * logits.abs().max().item()):
        raise Unsupported(f"its output head gives other logits than its weight, by {off:.3g} nats a token")
    return nll[row.n_prompt - 1 :]


def require_close(loaded: LoadedModel, ours: Tensor, theirs: Tensor) -> None:
    """Raise Unsupported for likelihoods that are far from those of the model's own forward."""
    difference = (ours - theirs).abs().mean().item()
    if not difference <= _allowed(loaded, theirs):
        raise Unsupported(f"rows together differ from its own forward by {difference:.3g} nats a token")


def require_causal(loaded: LoadedModel) -> None:
    """Raise ModelError if the own forward fails, or a token's likelihood changes with the tokens after it."""
    where = str(loaded.info.get("name", type(loaded.model).__name__))
    ids = _PACKED.rows(loaded)[1][0].ids
    half = _LAST // 2
    other = (*ids[:-half], *ids[: -half - 1 : -1])  # the last tokens in reverse order
    try:
        (_, ours), (_, changed) = own_states(loaded, ids, _LAST), own_states(loaded, other, _LAST)
    except _CANNOT as error:
        raise ModelError(
            "this model's own forward fails on a row of a few dozen tokens",
            where=where,
            found=reason_of(error, named=True),
            expected="a causal language model that transformers can compute on this machine",
        ) from error
    before = [-logits[:half].float().log_softmax(-1) for logits in (ours, changed)]
    difference = (before[0] - before[1]).abs().mean().item()
    if difference > _allowed(loaded, before[0]):
        raise ModelError(
            "this model is not causal: a token's likelihood changes with the tokens after it",
            where=where,
            found=f"{difference:.3g} nats a token",
            expected="a causal language model",
        )


def _allowed(loaded: LoadedModel, theirs: Tensor) -> float:
    return _FLOAT32 if loaded.dtype == torch.float32 else _SIXTEEN_BITS * theirs.mean().item()


def _on_small_copy(loaded: LoadedModel, trial: Trial) -> None:
    """Compare with the small copy's own forward; once for each configuration in a process."""
    config = loaded.model.config.get_text_config()
    key = json.dumps([trial.name, str(type(loaded.model)), config.to_dict()], sort_keys=True, default=str)
    if key not in _off_by:
        copy = small_copy(loaded.model)
        if copy is None:
            raise Unsupported("no small copy of it could be made to try it on")
        twin = replace(loaded, model=copy, dtype=torch.float32, device=torch.device("cpu"), max_tokens=None, info={})
        twin.rope_limit = rope_limit(copy)
        n_prefix, rows = trial.rows(twin)
        first, second = n_prefix // 3, 2 * n_prefix // 3  # a prefix behind a prefix, and the rest of it beside the rows
        past = prefix_kv(twin, rows[0].ids[:second], prefix_kv(twin, rows[0].ids[:first], None))
        ours = trial.run(twin, rows, n_prefix, past)
        each = [(nll - own_nll(twin, row)).abs().max().item() for row, nll in zip(rows, ours, strict=True)]
        _off_by[key] = max(each)
    if not _off_by[key] <= _COPY:
        raise Unsupported(
            f"on a small copy, rows together differ from its own forward by {_off_by[key]:.3g} nats a token"
        )
