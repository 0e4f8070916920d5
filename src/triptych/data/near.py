"""Texts that are nearly equal: MinHash finds candidates without comparing all pairs, exact Jaccard decides.

A text is the set of its character trigrams; likeness is Jaccard's, |a ∩ b| / |a ∪ b|. Signatures of minimal hashes are
cut into bands; texts with an equal band are candidates (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", chapter 3). Bands are chosen so that a pair at the threshold is missed in about 1 of 100 cases. Every pair
that is returned was compared exactly. Why it is no library: docs/decisions/0011.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.progress import Advance

GRAM = 3
"""Characters of a gram; a shorter text is one gram."""
_CHUNK = 20_000
_CROWD, _NEIGHBOURS = 32, 2
"""Of more texts than that with an equal band not all pairs are compared, but each with two neighbours and the first."""
_ENOUGH = 16
"""Two texts that are both near to this many others aren't compared with each other any more."""
_MANY = 10_000
"""From this many pairs on, if they outnumber the texts too, a text is compared only until one is found near it."""
_HASHES = 126
_MISSED = 0.012

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two positions, and how alike the texts there are."""

    a: int
    b: int
    jaccard: float


def near_pairs(
    texts: Sequence[str], threshold: float, *, across: int | None = None, advance: Advance = lambda _: None
) -> list[Pair]:
    """Find pairs of different texts whose trigrams' Jaccard index is at least `threshold`, in order of position.

    Where more than 16 are alike, or near pairs outnumber the texts (from 10,000 pairs on), each text is in some pair,
    but not all pairs are there: the pairs of a million texts fit in memory.

    Args:
        texts: already normalised. Empty ones are like no other; of equal ones only the first is compared.
        threshold: above 0, at most 1.
        across: if given, only pairs of one text before this position and one from it on; equal texts on the two
            sides are then a pair too.
        advance: called with the number of texts just hashed.
    """
    first: dict[tuple[bool, str], int] = {}
    for at, text in enumerate(texts):
        if text:
            first.setdefault((across is not None and at >= across, text), at)
    positions = np.fromiter(first.values(), np.int64, len(first))
    if len(positions) < 2:
        return []
    n_bands, width = bands_for(threshold)
    bands = _bands([texts[at] for at in positions], n_bands, width, advance)
    sizes = np.array([max(1, len(texts[at]) - GRAM + 1) for at in positions])
    near = np.zeros(len(positions), np.int64)  # how many each is known to be near to
    compared: set[int] = set()
    found: list[Pair] = []
    for left, right, crowded in (some for band in bands for some in _candidates(band)):
        many_pairs = len(found) >= max(_MANY, len(positions))
        # where hundreds are alike, it is enough to know of each that it is
        enough = np.where(crowded | many_pairs, 1, _ENOUGH)
        keep = (near[left] < enough) | (near[right] < enough)
        # |a ∩ b| / |a ∪ b| can't be above the ratio of the sizes; sizes count repeated grams, hence the allowance
        few, many = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        keep &= few >= threshold * many * 0.5
        if across is not None:
            keep &= (positions[left] < across) != (positions[right] < across)
        for i, j in zip(left[keep].tolist(), right[keep].tolist(), strict=True):
            limit = 1 if many_pairs else _ENOUGH
            code = i * len(positions) + j
            if code in compared or (near[i] >= limit <= near[j]):
                continue
            compared.add(code)
            a, b = sorted((int(positions[i]), int(positions[j])))
            likeness = jaccard(texts[a], texts[b])
            if likeness >= threshold:
                near[i] += 1
                near[j] += 1
                found.append(Pair(a, b, likeness))
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def jaccard(a: str, b: str) -> float:
    """Likeness of two texts by their trigrams: 1 for equal texts, 0 for texts with none in common."""
    grams_a, grams_b = _grams(a), _grams(b)
    return len(grams_a & grams_b) / len(grams_a | grams_b)


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, hashes a band): the widest bands that miss a pair at the threshold in at most about 1 of 100 cases."""
    for width in range(12, 1, -1):
        n_bands = _HASHES // width
        if (1 - threshold**width) ** n_bands <= _MISSED:
            return n_bands, width
    return _HASHES, 1


def _grams(text: str) -> set[str]:
    return {text[at : at + GRAM] for at in range(max(1, len(text) - GRAM + 1))}


def _bands(texts: Sequence[str], n_bands: int, width: int, advance: Advance) -> list[U64]:
    """Each band's key of each text, [n_bands] arrays of [n_texts]."""
    draw = np.random.default_rng(0)
    factors = draw.integers(0, 1 << 32, n_bands * width, dtype=np.uint32) | np.uint32(1)
    terms = draw.integers(0, 1 << 32, n_bands * width, dtype=np.uint32)
    bands: list[U64] = [np.zeros(len(texts), np.uint64) for _ in range(n_bands)]
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        hashes, offsets = _gram_hashes(part)
        for number, (factor, term) in enumerate(zip(factors, terms, strict=True)):
            least = np.minimum.reduceat(hashes * factor + term, offsets)
            band = bands[number // width][start : start + len(part)]
            band *= np.uint64(0x9E3779B97F4A7C15)  # in place: `band` is a view
            band += least + np.uint64(1)
            band ^= band >> np.uint64(31)
        advance(len(part))
    return bands


def _gram_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], I64]:
    """32-bit hashes of all grams, text after text, and where each text's begin."""
    padded = [text if len(text) >= GRAM else text.ljust(GRAM, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    mixed = codes[:-2] * np.uint64(0xFF51AFD7ED558CCD)
    mixed = (mixed ^ (mixed >> np.uint64(29))) + codes[1:-1] * np.uint64(0xC4CEB9FE1A85EC53)
    mixed = (mixed ^ (mixed >> np.uint64(32))) + codes[2:] * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    inside = np.ones(len(codes), bool)
    inside[ends - 1] = inside[ends - 2] = False  # these would reach into the next text
    hashes = (mixed >> np.uint64(32)).astype(np.uint32)[inside[: len(mixed)]]
    counts = np.diff(ends, prepend=0) - (GRAM - 1)
    offsets: Any = np.cumsum(counts) - counts
    return hashes, offsets


def _candidates(keys: U64) -> Iterator[tuple[I64, I64, NDArray[np.bool_]]]:
    """Pairs of positions with equal keys, the lower first, and whether they are of a crowd; a part at a time.

    Of at most 32 with a key all pairs; of a crowd, each with the two before it and with the first.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    places = np.arange(len(keys))
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begins = np.maximum.accumulate(np.where(fresh, places, 0))
    crowd = np.bincount(begins, minlength=len(keys))[begins] > _CROWD
    at = places
    for distance in range(1, _CROWD):
        if distance > _NEIGHBOURS:
            at = at[~crowd[at]]
        at = at[at - begins[at] >= distance]
        if not len(at):
            break
        yield order[at - distance], order[at], crowd[at]
    far = places[crowd & (places - begins > _NEIGHBOURS)]
    yield order[begins[far]], order[far], crowd[far]
