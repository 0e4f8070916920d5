"""Which settings are compared: the study's pairs, those that a richer grid adds, and the texts of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from triptych.metrics import Metric, metric_of
from triptych.records import CellRecord, Comparison, ItemScore
from triptych.records.schema import GenerationRecord
from triptych.report.groups import STRATEGIES, Setting, best_of_each, group_cells, items_of
from triptych.report.measures import PERPLEXITY, average_of, rows_of
from triptych.report.statistics import compare_rows, corrected

MOST_PAIRED = 6
"""Up to here the texts of every two cells are compared: 15 comparisons. More cells are compared with the first."""


def comparisons(
    cells: Sequence[CellRecord], items: Mapping[str, Sequence[ItemScore]], metrics: Sequence[str] = ("perplexity",)
) -> tuple[Comparison, ...]:
    """The run's comparisons by each metric, those of the first one first; each metric's are Holm-corrected together.

    A strategy that was not run is not compared, nor is a setting that lacks the metric. Rows that lack it on either
    side are left out. By each metric:

    - every QLoRA setting against the best few-shot setting and the best zero-shot prompt, and those two;
    - every other QLoRA setting against the plainest (`plain_qlora`): what demonstrations or another prompt add;
    - every other zero-shot prompt against the one named `default` (or the first, where none has that name);
    - demonstrations chosen in another way than at random against random ones, at the same prompt and k.
    """
    every = group_cells(cells)
    return tuple(made for name in metrics for made in _by_metric(every, items, metric_of(name)))


def _by_metric(
    every: Sequence[Setting], items: Mapping[str, Sequence[ItemScore]], metric: Metric
) -> tuple[Comparison, ...]:
    measured = [setting for setting in every if setting.has(average_of(metric))]
    made = []
    for a, b in _pairs(measured, metric):
        ours, theirs = rows_of(items_of(a, items), metric), rows_of(items_of(b, items), metric)
        if metric.name != PERPLEXITY.name:
            shared = ours.keys() & theirs.keys()
            ours, theirs = ({row: of[row] for row in of if row in shared} for of in (ours, theirs))
            if not shared:
                continue
        made.append(compare_rows(a.label, ours, b.label, theirs, metric=metric.key))
    return corrected(made)


def _pairs(every: Sequence[Setting], metric: Metric) -> list[tuple[Setting, Setting]]:
    best = best_of_each(every, metric)
    base = [best[strategy] for strategy in ("few_shot", "zero_shot") if strategy in best]
    tuned = [setting for setting in every if setting.strategy == "qlora"]
    # the study's three questions are read first
    pairs = [(setting, other) for setting in tuned for other in base] + list(combinations(base, 2))
    if plain := plain_qlora(every):
        pairs += [(plain, setting) for setting in tuned if setting is not plain]
    prompts = [setting for setting in every if setting.strategy == "zero_shot"]
    if prompts:
        default = next((setting for setting in prompts if setting.prompt == "default"), prompts[0])
        pairs += [(setting, default) for setting in prompts if setting is not default]
    pairs += [(setting, other) for setting in every if (other := counterpart(setting, every))]
    once: dict[frozenset[str], tuple[Setting, Setting]] = {}
    for a, b in pairs:
        once.setdefault(frozenset((a.label, b.label)), (a, b))
    return list(once.values())


def plain_qlora(every: Sequence[Setting]) -> Setting | None:
    """The first QLoRA setting without demonstrations in training and prompt, or the first at all; None without any."""
    tuned = [setting for setting in every if setting.strategy == "qlora"]
    plain = [s for s in tuned if not s.k and not s.first.trained_k and s.first.trained_prompt in (None, s.prompt)]
    return next(iter([*plain, *tuned]), None)


def counterpart(setting: Setting, every: Sequence[Setting]) -> Setting | None:
    """For few-shot demonstrations that were chosen: those drawn at random at the same prompt and k, if any."""
    if setting.strategy != "few_shot" or setting.select == "random":
        return None
    random = ("few_shot", setting.prompt, setting.k, "random")
    alike = [other for other in every if (other.strategy, other.prompt, other.k, other.select) == random]
    return min(alike, key=lambda other: other.first.draw != (setting.first.draw or "item"), default=None)


def text_comparisons(generations: Sequence[GenerationRecord]) -> tuple[Comparison, ...]:
    """Paired differences of the rows' chrF++ between cells, the dearer strategy minus the cheaper, corrected together.

    Every two cells where there are few (`MOST_PAIRED`), else each against the first, which is the first zero-shot cell
    where there is one: no cell is chosen by its score.

    Raises:
        ValueError: the cells don't hold the same rows.
    """
    ordered = sorted(generations, key=_cost)
    pairs = [(b, a) for a, b in combinations(ordered, 2)]
    if len(ordered) > MOST_PAIRED:
        pairs = [(other, ordered[0]) for other in ordered[1:]]
    return corrected([compare_rows(a.cell, a.row_chrf, b.cell, b.row_chrf, metric="chrf") for a, b in pairs])


def _cost(generation: GenerationRecord) -> int:
    strategy = generation.cell.partition("/")[0]
    return STRATEGIES.index(strategy) if strategy in STRATEGIES else len(STRATEGIES)
