"""What each metric needs, which direction is better, and what people call it: runner and report ask here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from triptych.config.metrics import is_own_metric
from triptych.metrics.choose import VARIANTS

Needs = Literal["likelihood", "options", "texts"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """In settings and records."""
    label: str
    """In sentences and tables: `accuracy`, `mean perplexity`."""
    needs: Needs
    higher_is_better: bool = True
    zero_or_one: bool = False
    """Whether each row's value is 0 or 1, so that a mean is a share."""
    top: float | None = 1.0
    """The best value there is; None where there is none, or it is unknown."""

    @property
    def key(self) -> str:
        """What `Comparison.metric` calls it."""
        return "ppl" if self.name == "perplexity" else self.name


_KNOWN = {
    metric.name: metric
    for metric in (
        Metric("perplexity", "mean perplexity", "likelihood", higher_is_better=False, top=1.0),
        Metric("accuracy", "accuracy", "options", zero_or_one=True),
        Metric("exact_match", "exact match", "texts", zero_or_one=True),
        Metric("f1", "F1", "texts"),
        Metric("rouge_l", "ROUGE-L", "texts"),
        Metric("chrf", "chrF++", "texts", top=100.0),
        Metric("bleu", "BLEU", "texts", top=100.0),
        Metric("number", "right numbers", "texts", zero_or_one=True),
        Metric("json", "right JSON fields", "texts"),
    )
}


def metric_of(name: str) -> Metric:
    """The metric of this name; one of the user's own is called by its function."""
    if is_own_metric(name):
        return Metric(name, name.rpartition(":")[2], "texts", top=None)
    return _KNOWN[name]


def metrics_of(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, in their order."""
    return [metric_of(name) for name in names]


def is_zero_or_one(name: str) -> bool:
    """Whether the rows' values are 0 or 1; also of `accuracy` by other ways to normalise."""
    return name in VARIANTS or metric_of(name).zero_or_one
