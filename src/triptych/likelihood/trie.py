"""Answers that stand behind one prompt as a trie: tokens that several of them begin with are computed once.

prompt … ─┬─ card ─┬─ _ ─── arrival [EOS]        node: a token that is computed, because something follows it
          │        └─ [EOS]                      edge: a token that is scored, from the node before it
          └─ cash ─── [EOS]                      an answer is a path of edges; it never sees the others
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PART = 48
"""Nodes that are attended at a time: fewer make small products, more compute pairs that don't see each other."""


@dataclass(frozen=True)
class Trie:
    """The nodes and edges of some answers, depth first. Node -1 is the prompt's last token."""

    tokens: tuple[int, ...]
    """[N] of the nodes."""
    parents: tuple[int, ...]
    """[N]"""
    at: tuple[int, ...]
    """[E] the node that predicts an edge's token; ascending."""
    targets: tuple[int, ...]
    """[E] the tokens that are scored."""
    paths: tuple[tuple[int, ...], ...]
    """Each answer's edges, in its own order."""

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """[N] tokens between the prompt and each node."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """The nodes in parts of `PART` or more, none of which has an ancestor in another part."""
        roots = [node for node, parent in enumerate(self.parents) if parent < 0]
        starts: list[int] = []
        for node in roots:
            if not starts or node - starts[-1] >= PART:
                starts.append(node)
        return tuple(map(slice, starts, [*starts[1:], len(self.tokens)]))

    @cached_property
    def ancestors(self) -> Tensor:
        """[N, N] bool: which nodes a node may look at, itself included."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def trie_of(answers: Sequence[Sequence[int]]) -> Trie:
    """Arrange answers, each one token or more, into a trie; it is the same for any order of them."""
    nodes: dict[tuple[int, int], int] = {}
    edges: dict[tuple[int, int], None] = {}
    for distinct in sorted({tuple(answer) for answer in answers}):
        node = -1
        for token in distinct[:-1]:
            edges[node, token] = None
            node = nodes.setdefault((node, token), len(nodes))
        edges[node, distinct[-1]] = None
    ordered = sorted(edges, key=lambda edge: edge[0])
    place = {edge: index for index, edge in enumerate(ordered)}
    paths = []
    for answer in answers:
        node, path = -1, []
        for token in answer:
            path.append(place[node, token])
            node = nodes.get((node, token), -1)
        paths.append(tuple(path))
    return Trie(
        tuple(token for _, token in nodes),
        tuple(parent for parent, _ in nodes),
        tuple(node for node, _ in ordered),
        tuple(token for _, token in ordered),
        tuple(paths),
    )
