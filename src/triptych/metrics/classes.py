"""What answers among options say beyond their share of right ones: by class, which are confused, and how sure.

macro_f1     mean over the classes of F1, so that a rare class weighs as much as a frequent one
confusion    which class is taken for which, how often
reliability  whether answers of a probability p are right in a share p of the rows, by bins of p
ece          expected calibration error: mean distance of the two, bins weighted by their rows (Guo et al. 2017)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BINS = 15
"""Of equal width, as Guo et al. have them."""


def probabilities(option_nll: Sequence[float]) -> list[float]:
    """The options' probabilities given that one of them is the answer: softmax of -NLL."""
    least = min(option_nll)
    weights = [math.exp(least - nll) for nll in option_nll]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def confusion(correct: Iterable[int | None], chosen: Iterable[int]) -> dict[tuple[int | None, int], int]:
    """(reference, answer) -> rows; the reference is None where it is no option."""
    return dict(Counter(zip(correct, chosen, strict=True)))


def macro_f1(correct: Sequence[int | None], chosen: Sequence[int]) -> float | None:
    """Mean F1 over the classes that are some row's reference or some row's answer; None without rows.

    F1 of a class = 2 tp / (2 tp + fp + fn). A row whose reference is no option counts against the class that was
    chosen for it, and is no class itself.
    """
    counts = confusion(correct, chosen)
    right = {klass: counts.get((klass, klass), 0) for pair in counts for klass in pair if klass is not None}
    if not right:
        return None
    is_reference = Counter(klass for klass in correct if klass is not None)
    is_answer = Counter(chosen)
    return math.fsum(2 * tp / (is_reference[klass] + is_answer[klass]) for klass, tp in right.items()) / len(right)


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose answer has a probability in a range."""

    low: float
    """Left out of the range, but in the first bin."""
    high: float
    n: int
    confidence: float
    """Mean probability of their answers."""
    accuracy: float
    """Share of them that are right."""


def reliability(confidences: Sequence[float], right: Sequence[float], bins: int = BINS) -> list[Bin]:
    """The bins that have rows, lowest first.

    Args:
        confidences: probability of each row's answer.
        right: 1 where it is right, else 0.
        bins: of equal width between 0 and 1.
    """
    rows: dict[int, list[tuple[float, float]]] = {}
    for pair in zip(confidences, right, strict=True):
        rows.setdefault(min(bins - 1, max(0, math.ceil(pair[0] * bins) - 1)), []).append(pair)
    return [
        Bin(
            low=place / bins,
            high=(place + 1) / bins,
            n=len(pairs),
            confidence=math.fsum(p for p, _ in pairs) / len(pairs),
            accuracy=math.fsum(hit for _, hit in pairs) / len(pairs),
        )
        for place, pairs in sorted(rows.items())
    ]


def ece(curve: Sequence[Bin]) -> float | None:
    """Expected calibration error of the bins of `reliability`, 0 to 1; None without rows."""
    rows = sum(one.n for one in curve)
    return math.fsum(one.n * abs(one.accuracy - one.confidence) for one in curve) / rows if rows else None
