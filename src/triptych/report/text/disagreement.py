"""Whether the run's metrics order the strategies alike, and whether the winner is beyond what needs no model."""

from __future__ import annotations

from itertools import combinations

from triptych.metrics import Metric
from triptych.records.schema import Strategy
from triptych.report.groups import STRATEGY_NAMES, Setting
from triptych.report.numbers import number
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.tables.cells import MAJORITY


def disagreements(study: Study) -> list[str]:
    """A sentence for each metric that orders the best of the strategies differently than the deciding one does.

    Both orders with their numbers, and whether what they disagree on is beyond chance by both. Equal values are no
    order, so they agree with any.
    """
    return [
        _sentence(study, metric, pairs)
        for metric in study.metrics
        if metric != study.metric and (pairs := _reversed(study, study.by(metric)))
    ]


def _reversed(one: Study, other: Study) -> list[tuple[Strategy, Strategy]]:
    """Pairs of strategies of which each metric calls another one better."""
    shared = [strategy for strategy in one.best if strategy in other.best]
    return [(a, b) for a, b in combinations(shared, 2) if _gain(one, a, b) * _gain(other, a, b) < 0]


def _gain(study: Study, a: Strategy, b: Strategy) -> float:
    """By how much a is better than b; below zero where it is worse."""
    difference = study.best[a].mean(study.average) - study.best[b].mean(study.average)
    return difference if study.metric.higher_is_better else -difference


def _sentence(study: Study, metric: Metric, pairs: list[tuple[Strategy, Strategy]]) -> str:
    other = study.by(metric)
    lead = "So far, the metrics disagree" if study.so_far else "The metrics disagree"
    text = f"{lead}: by {study.metric.label} the order is {order(study)}, but by {metric.label} it is {order(other)}."
    sure = [
        f"{STRATEGY_NAMES[a]} and {STRATEGY_NAMES[b]}"
        for a, b in pairs
        if _beyond_chance(study, a, b) and _beyond_chance(other, a, b)
    ]
    if sure:
        return f"{text} Beyond chance they contradict each other on {'; '.join(sure)}."
    return f"{text} On no pair of strategies they contradict each other beyond chance."


def order(study: Study) -> str:
    """`QLoRA 0.912 > few-shot 0.85 > zero-shot 0.61`: the best of each strategy, the best first."""
    sign = ">" if study.metric.higher_is_better else "<"
    return f" {sign} ".join(f"{STRATEGY_NAMES[s.strategy]} {number(s.mean(study.average))}" for s in study.ranked)


def _beyond_chance(study: Study, a: Strategy, b: Strategy) -> bool:
    pair = {study.best[a].label, study.best[b].label}
    return any({c.a, c.b} == pair and is_significant(c) for c in study.comparisons)


def no_better_than_guessing(study: Study, winner: Setting) -> list[str]:
    """A sentence where an accuracy isn't beyond the better of chance and the majority, as far as they are known."""
    known = [(study.record.majority, MAJORITY), (study.chance, "guessing among the options")]
    shares = [(share, what) for share, what in known if share is not None]
    interval = study.intervals.get(winner.label)
    if study.metric.needs != "options" or not shares or interval is None:
        return []
    share, what = max(shares)
    if interval.low > share:
        return []
    level = number(winner.mean(study.average))
    side = "below" if interval.high < share else "not beyond"
    return [
        f"That {study.metric.label}, {level}, is {side} what needs no model: {what} is right on "
        f"{number(share)} of the rows."
    ]
