"""Sentences that sum up many comparisons of one kind: prompts, ways of choosing demonstrations, QLoRA settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triptych.records import Comparison
from triptych.report.groups import Setting
from triptych.report.numbers import difference, number
from triptych.report.statistics import is_significant
from triptych.report.study import Study

SURE = "beyond chance"
"""p below 0.05 after Holm correction and an interval without zero, as every report explains below its answer."""


def prompts_summary(found: Sequence[Comparison], by_label: Mapping[str, Setting]) -> list[str]:
    """One sentence over all further zero-shot prompts, each against the same one."""
    if not found:
        return []
    base = by_label[found[0].b].prompt
    parts = _sorted_out(found, {c.a: by_label[c.a].prompt for c in found})
    return [f"Of {len(found)} other zero-shot prompts against the {base} prompt: {parts}."]


def demos_summary(found: Sequence[Comparison], by_label: Mapping[str, Setting]) -> list[str]:
    """A sentence for each way of choosing demonstrations, against random ones at the same prompt and k."""
    ways: dict[tuple[str, str], list[Comparison]] = {}
    for c in found:
        setting = by_label[c.a]
        what = f"{setting.select}, {setting.first.order}" if setting.first.order else str(setting.select)
        ways.setdefault((setting.prompt, what), []).append(c)
    several = len({prompt for prompt, _ in ways}) > 1
    sentences = []
    for (prompt, what), chosen in ways.items():
        parts = _sorted_out(chosen, {c.a: f"k={by_label[c.a].k}" for c in chosen})
        which = f"{what}, prompt {prompt}" if several else what
        sentences.append(f"Demonstrations with select = {which}, against random ones at the same k: {parts}.")
    return sentences


def adapters_summary(found: Sequence[Comparison], study: Study) -> list[str]:
    """QLoRA settings against the plainest one, and how many of the others beat the base model's best."""
    by_label, short = study.by_label, study.names
    among = [c for c in found if by_label[c.a].strategy == by_label[c.b].strategy]
    sentences = []
    if among:
        # the plainest comes first in each: turned round, a sentence speaks of what was added to it
        turned = [_turned(c) for c in among]
        parts = _sorted_out(turned, {c.a: short[c.a] for c in turned})
        plainest = among[0].a
        sentences.append(f"Against {short[plainest]} ({number(by_label[plainest].mean())}): {parts}.")
    rest = [c for c in found if c not in among]
    for label in dict.fromkeys(c.b for c in rest):
        against = [c for c in rest if c.b == label]
        lower = sum(is_significant(c) and c.difference < 0 for c in against)
        what = f"{short[label][0].lower()}{short[label][1:]}"
        sentences.append(f"Of the {len(against)} other QLoRA settings {lower} are better {SURE} than {what}.")
    return sentences


def _turned(c: Comparison) -> Comparison:
    swapped = {"a": c.b, "b": c.a, "difference": -c.difference, "ci_low": -c.ci_high, "ci_high": -c.ci_low}
    return c.model_copy(update=swapped)


def _sorted_out(found: Sequence[Comparison], called: Mapping[str, str]) -> str:
    """`better beyond chance: a (-0.3 [..]); can't be told: b, c`."""
    better = [c for c in found if is_significant(c) and c.difference < 0]
    worse = [c for c in found if is_significant(c) and c.difference > 0]
    rest = [c for c in found if not is_significant(c)]
    parts = []
    for way, chosen in (("better", better), ("worse", worse)):
        ordered = sorted(chosen, key=lambda c: -abs(c.difference)) if len(chosen) > 1 else chosen
        shown = [f"{called[c.a]} ({difference(c.difference, c.ci_low, c.ci_high)})" for c in ordered]
        parts += [f"{way} {SURE}: {', '.join(shown)}"] if shown else []
    parts += [f"can't be told: {', '.join(called[c.a] for c in rest)}"] if rest else []
    return "; ".join(parts)


def searched(study: Study) -> list[str]:
    """What a search chose on dev rows, which no number of the test set had a part in."""
    return [
        f"{study.name(setting.label)}, {number(setting.mean())}, was chosen on dev rows among "
        f"{setting.first.searched:,} settings and scored once on the test rows, so no selection favours it."
        for setting in study.settings
        if setting.first.searched
    ]
