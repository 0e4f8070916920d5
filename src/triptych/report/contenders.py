"""Which cells stand for which strategy, and which of them are compared.

A *setting* is one strategy at one setting with its seeds together: a few-shot cell per seed makes one setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from triptych.records import CellRecord, Comparison, ItemScore
from triptych.records.schema import Strategy
from triptych.report.statistics import compare, holm

__all__ = ["Setting", "best_of_each", "comparisons", "items_of", "names", "settings"]

STRATEGIES: tuple[Strategy, ...] = ("zero_shot", "few_shot", "qlora")
"""From the cheapest to adopt to the dearest: a sentence, longer prompts, a training run."""
STRATEGY_NAMES: dict[Strategy, str] = {"zero_shot": "zero-shot", "few_shot": "few-shot", "qlora": "QLoRA"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One strategy at one setting, over its seeds."""

    label: str
    strategy: Strategy
    cells: tuple[CellRecord, ...]

    @property
    def prompt(self) -> str:
        """Name of its prompt."""
        return self.cells[0].prompt

    @property
    def k(self) -> int:
        """Demonstrations asked for."""
        return self.cells[0].k

    def mean(self, average: str = "ppl_mean") -> float:
        """One of the four averages, meaned over seeds."""
        return float(np.mean([getattr(cell.aggregate, average) for cell in self.cells]))


def settings(cells: Sequence[CellRecord]) -> tuple[Setting, ...]:
    """Group cells that differ only in their seed, in the order in which they first appear."""
    groups: dict[tuple[object, ...], list[CellRecord]] = {}
    for cell in cells:
        alone = (cell.cell,)
        seeded = (_strategy(cell), cell.prompt, cell.k, cell.draw, cell.adapter_sha256)
        groups.setdefault(alone if cell.seed is None else seeded, []).append(cell)
    return tuple(_setting(group) for group in groups.values())


def _strategy(cell: CellRecord) -> Strategy:
    # whatever is scored with the adapter on is fine-tuned, with demonstrations or without
    return "qlora" if cell.adapter_sha256 is not None else cell.strategy


def _setting(group: list[CellRecord]) -> Setting:
    first, strategy = group[0], _strategy(group[0])
    label = re.sub(r"/seed=[^/]*", "", first.cell)
    if strategy == "few_shot":
        label = f"few_shot/{first.prompt}/k={first.k}/draw={first.draw}"
    return Setting(label, strategy, tuple(group))


def best_of_each(cells: Sequence[CellRecord]) -> dict[Strategy, Setting]:
    """The setting with the lowest ppl_mean of each strategy that was run, cheapest strategy first."""
    found: dict[Strategy, Setting] = {}
    for strategy in STRATEGIES:
        if of_it := [setting for setting in settings(cells) if setting.strategy == strategy]:
            found[strategy] = min(of_it, key=lambda setting: (setting.mean(), setting.label))
    return found


def names(of: Sequence[Setting]) -> dict[str, str]:
    """Label -> a short name for figures; a label stands for itself where short names would be the same."""
    short = {setting.label: _name(setting, of) for setting in of}
    taken = list(short.values())
    return {label: name if taken.count(name) == 1 else label for label, name in short.items()}


def _name(setting: Setting, of: Sequence[Setting]) -> str:
    alike = [other for other in of if other.strategy == setting.strategy]
    if setting.strategy == "qlora" and len(alike) == 1:
        return "QLoRA"
    parts = [STRATEGY_NAMES[setting.strategy]]
    if setting.strategy != "few_shot" or len({other.prompt for other in alike}) > 1:
        parts.append(setting.prompt)
    if setting.k:
        parts.append(f"k={setting.k}")
    if len({other.cells[0].draw for other in alike}) > 1:
        parts.append(f"draw={setting.cells[0].draw}")
    name = ", ".join(parts)
    return name[0].upper() + name[1:]


def items_of(setting: Setting, items: Mapping[str, Sequence[ItemScore]]) -> list[ItemScore]:
    """The rows of all seeds of a setting, one seed after the other."""
    missing = [cell.cell for cell in setting.cells if cell.cell not in items]
    if missing:
        raise ValueError(f"no rows for cell {missing[0]!r}")
    return [item for cell in setting.cells for item in items[cell.cell]]


def comparisons(cells: Sequence[CellRecord], items: Mapping[str, Sequence[ItemScore]]) -> tuple[Comparison, ...]:
    """The study's questions, Holm-corrected together; a strategy that was not run is not compared.

    All pairs among the best zero-shot prompt, the best few-shot setting and every QLoRA setting; and every other
    zero-shot prompt against the one named `default` (or the first, where none has that name).
    """
    made = [
        compare(a.label, items_of(a, items), b.label, items_of(b, items)) for a, b in _pairs(settings(cells), cells)
    ]
    corrected = holm([comparison.p_value for comparison in made])
    return tuple(c.model_copy(update={"p_holm": p}) for c, p in zip(made, corrected, strict=True))


def _pairs(every: Sequence[Setting], cells: Sequence[CellRecord]) -> list[tuple[Setting, Setting]]:
    best = best_of_each(cells)
    tuned = [setting for setting in every if setting.strategy == "qlora"]
    contenders = [*tuned, *(best[strategy] for strategy in ("few_shot", "zero_shot") if strategy in best)]
    # QLoRA settings among themselves come last: the study's three questions are read first
    pairs = sorted(combinations(contenders, 2), key=lambda pair: pair[1].strategy == "qlora")
    prompts = [setting for setting in every if setting.strategy == "zero_shot"]
    if prompts:
        default = next((setting for setting in prompts if setting.prompt == "default"), prompts[0])
        pairs += [(setting, default) for setting in prompts if setting is not default]
    return pairs
