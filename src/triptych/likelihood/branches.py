"""One pass over prompts with their answers behind them as branches: each prompt once, each shared beginning once.

    past, prefix │ row 1: rest of its prompt, nodes of its trie │ row 2: … │ …

    prompt token  sees   past, prefix, its row's prompt up to itself
    node          sees   past, prefix, its row's prompt, its own ancestors; no other answer

A row's positions go on from its prompt's by depth, so that each answer is where it would be behind its prompt alone.
Rows are attended one by one: they differ in where the prompt ends, and an answer's mask is its trie's. So are parts of
a trie that share no node.

Shape legend: N nodes   L keys   H query heads   K key/value heads   G = H / K   D head size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood.attention import Pack, attend_causally
from triptych.likelihood.context import PrefixKV, Scores, forward
from triptych.likelihood.head import Head
from triptych.likelihood.trie import Trie
from triptych.models import LoadedModel


@dataclass
class BranchPack(Pack):
    """A pass whose rows are the rest of a prompt with a trie behind it; `lengths` are of both together."""

    causal: ClassVar[bool] = False
    tries: Sequence[Trie] = ()
    _tree_masks: dict[tuple[int, int, int, int | None], Tensor] = field(default_factory=dict)

    def positions(self) -> Tensor:
        """[T] position of each token in its own sequence."""
        start = self.n_past + self.n_prefix
        line = list(range(self.n_past, start))
        for length, trie in zip(self.lengths, self.tries, strict=True):
            end = start + length - len(trie.tokens)
            line += [*range(start, end), *(end + depth for depth in trie.depths)]
        return torch.tensor(line, device=self.ids.device)

    def attend_rows(self, rows: list[Tensor], prefix: tuple[Tensor, Tensor], how: Scores) -> Tensor:
        """Query, key and value of the rows in a line, each [R, heads, D], behind a prefix -> [R, H, D]."""
        parts, start = [], 0
        for row, (length, trie) in enumerate(zip(self.lengths, self.tries, strict=True)):
            query, key, value = (t[start : start + length].transpose(0, 1)[None] for t in rows)
            n = length - len(trie.tokens)
            own = [tensor[:, :, :n] for tensor in (query, key, value)]
            parts.append(attend_causally(self, own[0], own[1], own[2], prefix, how))
            seen = ((prefix[0], own[1]), (prefix[1], own[2]))
            for part in trie.parts:
                nodes = slice(n + part.start, n + part.stop)
                keys, values = (
                    torch.cat([*before, t[:, :, nodes]], 2)[0] for before, t in zip(seen, (key, value), strict=True)
                )
                parts.append(_attend(query[0, :, nodes], keys, values, self._mask(row, part, n, how.window), how))
            start += length
        return torch.cat(parts)

    def _mask(self, row: int, part: slice, n_prompt: int, window: int | None) -> Tensor:
        """[N, L] float32 added to the scores of a part of a trie: 0 where a node may look, -inf where not."""
        trie, n_before = self.tries[row], self.n_past + self.n_prefix + n_prompt
        key = (id(trie), part.start, n_before, window)
        if key not in self._tree_masks:
            ancestors = trie.ancestors[part, part]
            allowed = torch.cat([torch.ones(len(ancestors), n_before, dtype=torch.bool), ancestors], 1)
            if window is not None:
                nodes = n_before + torch.tensor(trie.depths[part])
                allowed &= nodes[:, None] - torch.cat([torch.arange(n_before), nodes]) < window
            mask = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))
            self._tree_masks[key] = mask.to(self.ids.device)
        return self._tree_masks[key]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, how: Scores) -> Tensor:
    """query [H, N, D], key and value [K, L, D] -> [N, H, D]; without a fused kernel scores are in float32."""
    heads, n, size = query.shape
    groups = heads // key.shape[0]
    folded = query.reshape(key.shape[0], groups * n, size)
    mask = mask.repeat(groups, 1)
    if how.softcap is None and query.itemsize == 4:
        out = F.scaled_dot_product_attention(folded[None], key[None], value[None], attn_mask=mask, scale=how.scale)[0]
    else:
        scores = (folded.float() @ key.float().transpose(1, 2)).mul_(how.scale)
        if how.softcap is not None:
            scores = how.softcap * torch.tanh(scores / how.softcap)
        out = (scores + mask).softmax(-1).to(value.dtype) @ value
    return out.reshape(heads, n, -1).transpose(0, 1)


def branches_nll(
    loaded: LoadedModel,
    head: Head,
    prompts: Sequence[Sequence[int]],
    tries: Sequence[Trie],
    n_prefix: int,
    past: PrefixKV | None = None,
) -> list[Tensor]:
    """NLL in nats of each edge of each row's trie behind its prompt; prompts agree in their first `n_prefix` tokens.

    What `past` holds of the prefix is read from it. Returns a float32 tensor [E] a row.
    """
    start, device = past.length if past else 0, loaded.device
    own = [[*prompt[n_prefix:], *trie.tokens] for prompt, trie in zip(prompts, tries, strict=True)]
    lengths = [len(part) for part in own]
    line = [*prompts[0][start:n_prefix], *(token for part in own for token in part)]
    pack = BranchPack(torch.tensor(line, device=device), n_prefix - start, lengths, past, tries=tries)
    hidden = forward(loaded.model, pack)
    firsts = accumulate(lengths[:-1], initial=n_prefix - start)
    states: list[int] = []
    edges: list[int] = []
    targets: list[int] = []
    for first, prompt, trie in zip(firsts, prompts, tries, strict=True):
        last = first + len(prompt) - n_prefix - 1  # the prompt's last token is node -1, and its nodes follow it
        edges += [len(states) + 1 + node for node in trie.at]
        targets += trie.targets
        states += range(last, last + 1 + len(trie.tokens))
    at, wanted = torch.tensor(edges, device=device), torch.tensor(targets, device=device)
    nll = head.nll_of_several(hidden.index_select(0, torch.tensor(states, device=device)), at, wanted)
    return list(torch.split(nll, [len(trie.targets) for trie in tries]))
