"""Which option a model chooses, from the NLL of each option's tokens; ties go to the first in the listed order.

accuracy               argmin  sum of all tokens, the end of the output included
accuracy_token         argmin  sum / tokens
accuracy_char          argmin  sum / characters of the option
accuracy_no_eos        argmin  sum without the end         lm-eval's `acc`
accuracy_no_eos_char   argmin  that / characters           lm-eval's `acc_norm`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Tokens = Sequence[np.ndarray[Any, np.dtype[np.float32]]]
VARIANTS = ("accuracy_token", "accuracy_char", "accuracy_no_eos", "accuracy_no_eos_char")
"""Recorded beside `accuracy`: what other ways to normalise choose."""


def sums(nll: Tokens) -> list[float]:
    """NLL of each option in nats, summed in double precision."""
    return [math.fsum(tokens.tolist()) for tokens in nll]


def choices_by(nll: Tokens, n_chars: Sequence[int]) -> dict[str, int]:
    """Metric -> the option that it chooses, from each option's token NLLs (the end last) and characters."""
    whole, begun = sums(nll), sums([tokens[:-1] for tokens in nll])
    ways = {
        "accuracy": whole,
        "accuracy_token": [value / len(tokens) for value, tokens in zip(whole, nll, strict=True)],
        "accuracy_char": [value / n for value, n in zip(whole, n_chars, strict=True)],
        "accuracy_no_eos": begun,
        "accuracy_no_eos_char": [value / n for value, n in zip(begun, n_chars, strict=True)],
    }
    return {name: min(range(len(values)), key=values.__getitem__) for name, values in ways.items()}
