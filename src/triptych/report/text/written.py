"""What is said of the texts that the models wrote."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.records import Comparison
from triptych.report.numbers import difference, number, p_text
from triptych.report.statistics import a_is_better, is_significant
from triptych.report.study import Study


def plain_name(name: str) -> str:
    """`few-shot k=10`: a comma and a capital less, for the middle of a sentence and for narrow columns."""
    return name.replace(", ", " ").replace("Few-shot", "few-shot").replace("Zero-shot", "zero-shot")


def written_said(study: Study) -> list[str]:
    """Whether the texts are any better, in sentences: the cell with the highest mean row chrF++ against the others."""
    generations = study.record.generations
    if len(generations) < 2 or not study.text_comparisons:
        return []
    short = {cell: plain_name(name) for cell, name in study.cell_names.items()}
    means = {g.cell: sum(g.row_chrf.values()) / len(g.row_chrf) for g in generations}
    top = max(means, key=lambda cell: means[cell])
    count = f"{generations[0].n_rows:,} rows"
    first = f"By the chrF++ of its texts {short.get(top, top)} comes first: a mean of {number(means[top])} on {count}."
    pairs = [c for c in study.text_comparisons if top in (c.a, c.b)]
    better = [c for c in pairs if is_significant(c)]
    rest = [c for c in pairs if not is_significant(c)]
    said = [f"{_other(c, top, short)} {_margin(c)}" for c in better]
    first += f" Beyond chance it is better than {'; '.join(said)}." if said else ""
    first += f" It can't be told from {'; '.join(_other(c, top, short) for c in rest)}." if rest else ""
    return [first]


def _other(c: Comparison, top: str, short: Mapping[str, str]) -> str:
    other = c.b if c.a == top else c.a
    return short.get(other, other)


def _margin(c: Comparison) -> str:
    low, high = sorted((abs(c.ci_low), abs(c.ci_high)))
    rows = c.wins if a_is_better(c) else c.losses
    by = difference(abs(c.difference), low, high)
    return f"by {by} ({p_text(c.p_holm)} after Holm correction, better on {rows:,} of {c.n_rows:,} rows)"
