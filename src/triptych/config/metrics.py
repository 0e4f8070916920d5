"""The key `metrics`: by what the answer is decided, and what else is in every table; `data.choices`: the options.

perplexity     of the reference output
accuracy       by option likelihood: the option with the lowest NLL is the answer
the others     of the text that the model writes, against the reference
MODULE:FUNCTION    the user's own, of a text and its reference
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from triptych.config.section import Section
from triptych.config.strategies import OneOrMore

TEXT_METRICS = ("exact_match", "f1", "rouge_l", "chrf", "bleu", "number", "json")
METRICS = ("perplexity", "accuracy", *TEXT_METRICS)
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_own_metric(name: str) -> bool:
    """Whether a metric is the user's own, `MODULE:FUNCTION`."""
    return ":" in name


def needs_texts(metrics: Iterable[str]) -> bool:
    """Whether some metric is of texts that the model writes."""
    return any(name in TEXT_METRICS or is_own_metric(name) for name in metrics)


def check_metric(name: str) -> str:
    """Return a metric's name; ValueError, with what would be right, where there is no such metric."""
    if name in METRICS or _OWN.fullmatch(name):
        return name
    if is_own_metric(name):
        raise ValueError("MODULE:FUNCTION, as in `import MODULE` and `MODULE.FUNCTION`")
    near = difflib.get_close_matches(name.lower().replace("-", "_"), METRICS, n=1, cutoff=0.5)
    guess = f"; did you mean `{near[0]}`?" if near else ""
    raise ValueError(f"one of {', '.join(METRICS)}, or a function of yours as MODULE:FUNCTION{guess}")


def _check_choices(value: Any) -> Any:
    """Options are texts, two or more, none empty and none twice."""
    if not isinstance(value, list | tuple):
        return value
    if any(isinstance(one, bool) or one is None for one in value):
        raise ValueError("texts: put quotes around words that YAML reads as true, false or null")
    texts = tuple(str(one) if isinstance(one, int | float) else one for one in value)
    if len(texts) < 2 or len(set(texts)) < len(texts) or "" in texts:
        raise ValueError("two options or more, each once and none empty")
    return texts


MetricName = Annotated[str, AfterValidator(check_metric)]
Metrics = OneOrMore[MetricName]
Choices = Annotated[tuple[str, ...] | str, BeforeValidator(_check_choices)]


class Measured(Section):
    """What `triptych score` measures."""

    metric: Metrics = ("perplexity",)
    choices: Choices = "auto"
