"""Cells grouped into settings, and the settings' names.

A *setting* is one strategy at one setting with its seeds together: few-shot cells that differ only in the seed of their
demonstrations make one setting, QLoRA cells that differ only in the seed of their training another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.metrics import Metric
from triptych.records import Averaged, CellRecord, ItemScore
from triptych.records.schema import Strategy
from triptych.report.measures import PERPLEXITY, average_of, measured
from triptych.report.seeds import averaged, selection

STRATEGIES: tuple[Strategy, ...] = ("zero_shot", "few_shot", "qlora")
"""From the cheapest to adopt to the dearest: a sentence, longer prompts, a training run."""
REPORTED: tuple[Strategy, ...] = ("qlora", "zero_shot", "few_shot")
"""In the order of the study's report."""
STRATEGY_NAMES: dict[Strategy, str] = {"zero_shot": "zero-shot", "few_shot": "few-shot", "qlora": "QLoRA"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One strategy at one setting, over its seeds."""

    label: str
    strategy: Strategy
    cells: tuple[CellRecord, ...]

    @property
    def first(self) -> CellRecord:
        """What all its cells have in common is read from this one."""
        return self.cells[0]

    @property
    def prompt(self) -> str:
        """Name of its prompt."""
        return self.first.prompt

    @property
    def k(self) -> int:
        """Demonstrations asked for."""
        return self.first.k

    @property
    def select(self) -> str | None:
        """How its demonstrations were chosen; None where there are none."""
        return selection(self.first)

    @property
    def demo_words(self) -> list[str]:
        """`k=…`, and how its demonstrations were chosen, ordered and drawn, where it isn't plain random choice."""
        select, draw = self.select if self.select != "random" else None, self.first.draw and f"draw={self.first.draw}"
        return [word for word in (f"k={self.k}", select, self.first.order, draw) if word] if self.k else []

    @property
    def train_seeds(self) -> tuple[int, ...]:
        """Seeds of its trainings, in order; empty where nothing was trained or no seed is known."""
        return tuple(sorted({cell.train_seed for cell in self.cells if cell.train_seed is not None}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its demonstrations, in order; empty where none were drawn."""
        return tuple(sorted({cell.seed for cell in self.cells if cell.seed is not None}))

    @property
    def repeated(self) -> str:
        """What its ± is over: `trainings` where there are several, else `seeds` of the demonstrations, else nothing."""
        if len(self.train_seeds) > 1:
            return "trainings"
        return "seeds" if len(self.cells) > 1 else ""

    def has(self, average: str) -> bool:
        """Whether each of its cells has this average (`measures.measured`)."""
        return all(measured(cell.aggregate, average) is not None for cell in self.cells)

    def mean(self, average: str = "ppl_mean") -> float:
        """One of the four averages, or a metric, meaned over seeds."""
        return float(np.mean([_value(cell, average) for cell in self.cells]))

    def over(self, average: str = "ppl_mean") -> Averaged:
        """Mean and spread over what `repeated` names; a training with several draws enters with their mean."""
        if self.repeated == "trainings":
            return self.over_trainings(average)
        return averaged([_value(cell, average) for cell in self.cells])

    def bits_per_char(self) -> Averaged | None:
        """`over("bits_per_char")`; None where the outputs have no character."""
        return self.over("bits_per_char") if self.has("bits_per_char") else None

    def over_trainings(self, average: str = "ppl_mean") -> Averaged:
        """Mean and standard deviation (n-1) over training seeds."""
        return averaged([float(np.mean(values)) for values in self._by_training(average)])

    def over_draws(self, average: str = "ppl_mean") -> Averaged:
        """Mean and standard deviation (n-1) over the demonstrations' seeds.

        With several trainings it is the spread within a training (root of the mean variance), which holds the training
        fixed.
        """
        within = [averaged(values) for values in self._by_training(average)]
        variances = [over.std**2 for over in within if over.std is not None]
        std = float(np.sqrt(np.mean(variances))) if variances else None
        return Averaged(mean=self.mean(average), std=std, n=max(over.n for over in within))

    def _by_training(self, average: str) -> list[list[float]]:
        seeds = self.train_seeds or (None,)
        return [[_value(cell, average) for cell in self.cells if cell.train_seed == seed] for seed in seeds]


def _value(cell: CellRecord, average: str) -> float:
    value = measured(cell.aggregate, average)
    if value is None:
        raise ValueError(f"cell {cell.cell!r} has no {average}")
    return value


def group_cells(cells: Sequence[CellRecord]) -> tuple[Setting, ...]:
    """Group cells that differ only in their seeds, in the order in which they first appear."""
    groups: dict[tuple[object, ...], list[CellRecord]] = {}
    for cell in cells:
        seeded = cell.seed is not None or cell.train_seed is not None
        groups.setdefault(_shared(cell) if seeded else (cell.cell,), []).append(cell)
    labels = [_label(group[0]) for group in groups.values()]
    # names are the user's; two settings that would be called the same keep the names of their cells
    return tuple(
        Setting(label if labels.count(label) == 1 else group[0].cell, _strategy(group[0]), tuple(group))
        for label, group in zip(labels, groups.values(), strict=True)
    )


def _shared(cell: CellRecord) -> tuple[object, ...]:
    shown = (cell.prompt, cell.k, cell.draw, selection(cell), cell.order, cell.searched)
    # what a training shares with those from other seeds; runs that name no training have the adapter
    named = cell.train_seed is not None and cell.training is not None
    recipe = re.sub(r"/?train_seed=[^/]*", "", cell.training or "") if named else cell.adapter_sha256
    return (_strategy(cell), *shown, recipe, cell.trained_prompt, cell.trained_k)


def _strategy(cell: CellRecord) -> Strategy:
    # every cell scored with the adapter on is fine-tuned, with demonstrations or without
    return "qlora" if cell.adapter_sha256 is not None else cell.strategy


def _label(cell: CellRecord) -> str:
    """The name of a cell's setting: its own without what differs between seeds."""
    if _strategy(cell) != "few_shot":
        return re.sub(r"/(train_)?seed=[^/]*", "", cell.cell)
    parts = [f"few_shot/{cell.prompt}/k={cell.k}"]
    parts += [f"select={select}"] if (select := selection(cell)) not in (None, "random") else []
    parts += [f"order={cell.order}"] if cell.order else []
    parts += [f"draw={cell.draw}"] if cell.draw else []
    return "/".join(parts)


def best_of_each(every: Sequence[Setting], metric: Metric = PERPLEXITY) -> dict[Strategy, Setting]:
    """The setting with the best mean of each strategy that was run, cheapest strategy first.

    Of settings that are equal by the metric, the one with the lowest ppl_mean. Settings without the metric are left
    out.
    """
    average, sign = average_of(metric), -1 if metric.higher_is_better else 1
    known = [setting for setting in every if setting.has(average)]
    ordered = sorted(known, key=lambda s: (sign * s.mean(average), s.mean(), s.label), reverse=True)
    best = {setting.strategy: setting for setting in ordered}
    return {strategy: best[strategy] for strategy in STRATEGIES if strategy in best}


def display_names(of: Sequence[Setting]) -> dict[str, str]:
    """Label -> a short name for people; a label stands for itself where short names would be the same."""
    short = {setting.label: _name(setting, of) for setting in of}
    taken = list(short.values())
    return {label: name if taken.count(name) == 1 else label for label, name in short.items()}


def _name(setting: Setting, of: Sequence[Setting]) -> str:
    alike = [other for other in of if other.strategy == setting.strategy]
    if setting.strategy == "qlora" and len(alike) == 1:
        return "QLoRA"
    parts: list[str] = [STRATEGY_NAMES[setting.strategy]]
    if setting.strategy != "few_shot" or len({other.prompt for other in alike}) > 1:
        parts.append(setting.prompt)
    if setting.k:
        parts += [f"k={setting.k}", *_shown(setting, alike)]
    parts += trained_with(setting.first)
    parts += ["found by search"] if setting.first.searched else []
    return capital(", ".join(parts))


def capital(text: str) -> str:
    """With a capital first letter; the others stay."""
    return text[0].upper() + text[1:]


def _shown(setting: Setting, alike: Sequence[Setting]) -> list[str]:
    """How the demonstrations were chosen, where it differs between settings."""
    shown, draw = [other for other in alike if other.k], setting.first.draw
    parts = select_and_order(str(setting.select), setting.first.order, [(s.select, s.first.order) for s in shown])
    draws = {other.first.draw for other in shown if other.first.draw}
    return [*parts, *([f"draw={draw}"] if draw and len(draws) > 1 else [])]


def select_and_order(select: str, order: str | None, every: Sequence[tuple[str | None, str | None]]) -> list[str]:
    """The two, where they differ within `every`, which holds both of each setting; `random` goes without saying."""
    parts = [select] if len({other for other, _ in every}) > 1 or select != "random" else []
    orders = {other for chosen, other in every if chosen == select}
    return [*parts, *([order] if order and len(orders) > 1 else [])]


def trained_with(cell: CellRecord) -> list[str]:
    """Prompt and demonstrations of its adapter's training, if the prompt is another one and if there were any."""
    other = [cell.trained_prompt] if cell.trained_prompt not in (None, cell.prompt) else []
    other += [f"{cell.trained_k} demo{'s' * (cell.trained_k != 1)}"] if cell.trained_k else []
    return [f"trained with {' and '.join(map(str, other))}"] if other else []


def repeat_of(cell: CellRecord) -> list[str]:
    """How a cell differs from the others of its setting: `training seed 1`, `seed 0`."""
    seeds = {"training seed": cell.train_seed, "seed": cell.seed}
    return [f"{name} {seed}" for name, seed in seeds.items() if seed is not None]


def items_of(setting: Setting, items: Mapping[str, Sequence[ItemScore]]) -> list[ItemScore]:
    """The rows of all seeds of a setting, one seed after the other."""
    for cell in setting.cells:
        if cell.cell not in items:
            raise ValueError(f"no rows for cell {cell.cell!r}")
    return [item for cell in setting.cells for item in items[cell.cell]]
