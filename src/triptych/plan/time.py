"""How long work takes: floating-point operations, counted, divided by a rate whose origin is always stated.

    calibrated   a few passes of each kind of cell and training steps were timed on this machine just now
    remembered   the same model, dtype and device were timed here before (`rates.json` in the cache)
    assumed      torch's matrix products were timed for a third of a second; real passes reach a part of that

The last is a rough guess, tried on two machines only: one with units for bfloat16, which passes keep waiting, and one
without, where the products are nearly all there is.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from triptych.config.choices import DtypeName
from triptych.errors import DiskError
from triptych.models.cache import cache_folder, warn_not_kept
from triptych.models.device import matmul_rate
from triptych.models.shape import ModelShape
from triptych.plan.tokens import Work
from triptych.records.store import write_json

Origin = Literal["calibrated", "remembered", "assumed"]

_SHARES = {"cpu, 16 bits": (0.35, 0.3), "cpu, float32": (0.7, 0.6), "cuda": (0.45, 0.4)}
"""Part of the matrix products' rate that scoring passes reach, and that training steps reach."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating-point operations a second, as `scoring_flops` and `training_flops` count them."""

    origin: Origin
    said: str
    """Where the rates come from, in words."""
    training: float
    """Of one process."""
    scoring: dict[str, float] = field(default_factory=dict)
    """By kind of cell (`few_shot k=3`); `any` is for kinds that are not there."""
    loading_seconds: float = 0.0

    def of(self, kind: str) -> float:
        """The rate of a kind of cell."""
        return self.scoring.get(kind, self.scoring["any"])


def scoring_flops(shape: ModelShape, work: Work) -> float:
    """Operations of scoring: layers, attention, and the head at scored positions."""
    return _layers(shape, work) + _head(shape, work)


def training_flops(shape: ModelShape, work: Work, *, lora_parameters: int, recompute: bool) -> float:
    """Operations of training: forward, the backward through frozen weights, the adapter's own, the head's twice."""
    passes = 3 if recompute else 2
    return passes * _layers(shape, work) + 6.0 * lora_parameters * work.forward + 2 * _head(shape, work)


def _layers(shape: ModelShape, work: Work) -> float:
    attention = 4.0 * shape.n_heads * shape.head_dim * shape.n_layers * work.pairs
    return 2.0 * shape.linear_parameters * work.forward + attention


def _head(shape: ModelShape, work: Work) -> float:
    return 2.0 * shape.hidden_size * shape.vocab_size * work.scored


def assumed_rates(device: torch.device, dtype: DtypeName) -> Rates:
    """Rates from a matrix product, timed now."""
    rate = matmul_rate(device, dtype)
    kind = "cuda" if device.type == "cuda" else "cpu, float32" if dtype == "float32" else "cpu, 16 bits"
    passes, steps = _SHARES[kind]
    said = (
        f"assumed: products in {dtype} run at {rate / 1e9:.0f} GFLOP/s here (timed now), of which passes are taken to "
        f"reach {passes:.0%} and training steps {steps:.0%}; --calibrate times the model itself"
    )
    return Rates("assumed", said, rate * steps, {"any": rate * passes})


def rates_key(
    shape: ModelShape, *, quantize: str, held: str, dtype: str, device: str, threads: int | None, processes: int = 1
) -> str:
    """Which plans a rate holds for: sizes of the model, how it is stored, dtype, device, the threads asked for, and the
    processes that compute at the same time.
    """
    facts = [asdict(shape), quantize, held, dtype, device, threads, processes]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def remembered_rates(key: str) -> Rates | None:
    """Rates that were timed on this machine before."""
    try:
        value = _remembered()[key]
        scoring = {**value["scoring"], "any": value["any"]}
        rates = Rates(
            "remembered",
            f"remembered: timed on this machine on {value['at']}",
            float(value["training"]),
            {str(kind): float(rate) for kind, rate in scoring.items()},
            float(value["loading_seconds"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    numbers = [rates.training, *rates.scoring.values(), rates.loading_seconds]
    return rates if all(math.isfinite(number) and number >= 0 for number in numbers) else None


def remember_rates(key: str, rates: Rates) -> None:
    """Keep rates for the next plan of the same model on this machine."""
    value: dict[str, Any] = {
        "at": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "training": rates.training,
        "scoring": {kind: rate for kind, rate in rates.scoring.items() if kind != "any"},
        "any": rates.scoring["any"],
        "loading_seconds": rates.loading_seconds,
    }
    try:
        write_json(cache_folder() / "rates.json", {**_remembered(), key: value})
    except (DiskError, OSError) as error:
        warn_not_kept("timed rates", error)


def _remembered() -> dict[str, Any]:
    try:
        value = json.loads((cache_folder() / "rates.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a cache that can't be read is a cache that is empty
        return {}
    return value if isinstance(value, dict) else {}
