"""Sentences on many comparisons of one kind (prompts, demonstrations, QLoRA settings), and on the texts written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triptych.records import Comparison
from triptych.report.groups import Setting
from triptych.report.numbers import difference, number, p_text
from triptych.report.statistics import a_is_better, is_significant, verdict
from triptych.report.study import Study

SURE = "beyond chance"
"""p below 0.05 after Holm correction and an interval without zero, as every report explains below its answer."""


def prompts_summary(made: Sequence[Comparison], by_label: Mapping[str, Setting]) -> list[str]:
    """One sentence over all further zero-shot prompts, each against the same one."""
    base = by_label[made[0].b].prompt
    parts = _sorted_out(made, {c.a: by_label[c.a].prompt for c in made})
    return [f"Of {len(made)} other zero-shot prompts against the {base} prompt: {parts}."]


def demos_summary(made: Sequence[Comparison], by_label: Mapping[str, Setting]) -> list[str]:
    """A sentence for each way of choosing demonstrations, against random ones at the same prompt and k."""
    ways: dict[str, list[Comparison]] = {}
    several = len({by_label[c.a].prompt for c in made}) > 1
    for c in made:
        setting = by_label[c.a]
        words = [str(setting.select), setting.first.order or "", f"prompt {setting.prompt}" if several else ""]
        ways.setdefault(", ".join(filter(None, words)), []).append(c)
    sentences = []
    for which, chosen in ways.items():
        parts = _sorted_out(chosen, {c.a: f"k={by_label[c.a].k}" for c in chosen})
        sentences.append(f"Demonstrations with select = {which}, against random ones at the same k: {parts}.")
    return sentences


def adapters_summary(made: Sequence[Comparison], study: Study) -> list[str]:
    """QLoRA settings against the plainest one, and how many of the others beat the base model's best."""
    by_label, short = study.by_label, study.names
    among = [c for c in made if by_label[c.a].strategy == by_label[c.b].strategy]
    sentences = []
    if among:
        # the plainest is `a` in each, and the sentence is about what was added to it
        parts = _sorted_out([_swapped(c) for c in among], short)
        plainest = among[0].a
        sentences.append(f"Against {short[plainest]} ({number(study.mean(by_label[plainest]))}): {parts}.")
    rest = [c for c in made if c not in among]
    for label in dict.fromkeys(c.b for c in rest):
        against = [c for c in rest if c.b == label]
        lower = sum(is_significant(c) and a_is_better(c) for c in against)
        what = f"{short[label][0].lower()}{short[label][1:]}"
        sentences.append(f"Of the {len(against)} other QLoRA settings {lower} are better {SURE} than {what}.")
    return sentences


def _swapped(c: Comparison) -> Comparison:
    swapped = {"a": c.b, "b": c.a, "difference": -c.difference, "ci_low": -c.ci_high, "ci_high": -c.ci_low}
    return c.model_copy(update=swapped)


def _sorted_out(made: Sequence[Comparison], called: Mapping[str, str]) -> str:
    """`better beyond chance: a (-0.3 [..]); can't be told: b, c`."""
    ways: dict[str, list[str]] = {f"better {SURE}": [], f"worse {SURE}": [], "can't be told": []}
    for c in sorted(made, key=lambda c: -abs(c.difference) * is_significant(c)):
        sure = f" ({difference(c.difference, c.ci_low, c.ci_high)})" if is_significant(c) else ""
        ways[verdict(c, f"better {SURE}", f"worse {SURE}")].append(called[c.a] + sure)
    return "; ".join(f"{way}: {', '.join(shown)}" for way, shown in ways.items() if shown)


def searched(study: Study) -> list[str]:
    """What a search chose on dev rows, which no number of the test set had a part in."""
    return [
        f"{study.name(setting.label)}, {number(study.mean(setting))}, was chosen on dev rows among "
        f"{setting.first.searched:,} settings and scored once on the test rows, so no selection favours it."
        for setting in study.settings
        if setting.first.searched and setting.has(study.average)
    ]


def plain_name(name: str) -> str:
    """`few-shot k=10`: a comma and a capital less, for the middle of a sentence and for narrow columns."""
    return name.replace(", ", " ").replace("Few-shot", "few-shot").replace("Zero-shot", "zero-shot")


def texts_answer(study: Study) -> list[str]:
    """Whether the texts are any better, in sentences: the cell with the highest mean row chrF++ against the others."""
    generations = study.record.generations
    if len(generations) < 2 or not study.text_comparisons:
        return []
    short = {cell: plain_name(name) for cell, name in study.cell_names.items()}
    means = {g.cell: sum(g.row_chrf.values()) / len(g.row_chrf) for g in generations}
    top = max(means, key=lambda cell: means[cell])
    count = f"{generations[0].n_rows:,} rows"
    first = f"By the chrF++ of its texts {short.get(top, top)} comes first: a mean of {number(means[top])} on {count}."
    others = {(c.b if c.a == top else c.a): c for c in study.text_comparisons if top in (c.a, c.b)}
    better = [f"{short.get(cell, cell)} {_margin(c)}" for cell, c in others.items() if is_significant(c)]
    rest = [short.get(cell, cell) for cell, c in others.items() if not is_significant(c)]
    first += f" Beyond chance it is better than {'; '.join(better)}." if better else ""
    first += f" It can't be told from {'; '.join(rest)}." if rest else ""
    return [first]


def _margin(c: Comparison) -> str:
    rows = c.wins if a_is_better(c) else c.losses
    return f"by {size(c)} ({p_text(c.p_holm)} after Holm correction, better on {rows:,} of {c.n_rows:,} rows)"


def size(c: Comparison) -> str:
    """A difference with its interval, without its sign."""
    return difference(abs(c.difference), *sorted((abs(c.ci_low), abs(c.ci_high))))
