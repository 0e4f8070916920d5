"""Which cells stand for which strategy, and what they are called.

A *setting* is one strategy at one setting with its seeds together: few-shot cells that differ only in the seed of their
demonstrations make one setting, QLoRA cells that differ only in the seed of their training another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.records import Averaged, CellRecord, ItemScore
from triptych.records.schema import Strategy
from triptych.report.seeds import averaged, selection

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
        """How its demonstrations were chosen, ordered and drawn, where that isn't plain random choice."""
        chosen = [self.select] if self.select not in (None, "random") else []
        known = [*chosen, self.first.order, self.first.draw and f"draw={self.first.draw}"]
        return [word for word in known if word] if self.k else []

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

    def mean(self, average: str = "ppl_mean") -> float:
        """One of the four averages, meaned over seeds."""
        return float(np.mean([getattr(cell.aggregate, average) for cell in self.cells]))

    def over(self, average: str = "ppl_mean") -> Averaged:
        """Mean and spread over what `repeated` names; a training with several draws enters with their mean."""
        return self.over_trainings(average) if self.repeated == "trainings" else averaged(_values(self.cells, average))

    def bits_per_char(self) -> Averaged | None:
        """`over("bits_per_char")`; None where the outputs have no character."""
        return None if any(cell.aggregate.bits_per_char is None for cell in self.cells) else self.over("bits_per_char")

    def over_trainings(self, average: str = "ppl_mean") -> Averaged:
        """Mean and standard deviation (n-1) over training seeds."""
        seeds = self.train_seeds or (None,)
        return averaged([float(np.mean(_values(self._trained(seed), average))) for seed in seeds])

    def over_draws(self, average: str = "ppl_mean") -> Averaged:
        """Mean and standard deviation (n-1) over the demonstrations' seeds.

        With several trainings it is the spread within a training (root of the mean variance), which holds the training
        fixed.
        """
        seeds = self.train_seeds or (None,)
        within = [averaged(_values(self._trained(seed), average)) for seed in seeds]
        known = [over.std**2 for over in within if over.std is not None]
        std = float(np.sqrt(np.mean(known))) if known else None
        return Averaged(mean=self.mean(average), std=std, n=max(over.n for over in within))

    def _trained(self, seed: int | None) -> list[CellRecord]:
        return [cell for cell in self.cells if cell.train_seed == seed]


def _values(cells: Sequence[CellRecord], average: str) -> list[float]:
    return [getattr(cell.aggregate, average) for cell in cells]


def group_cells(cells: Sequence[CellRecord]) -> tuple[Setting, ...]:
    """Group cells that differ only in their seeds, in the order in which they first appear."""
    groups: dict[tuple[object, ...], list[CellRecord]] = {}
    for cell in cells:
        seeded = cell.seed is not None or cell.train_seed is not None
        groups.setdefault(_shared(cell) if seeded else (cell.cell,), []).append(cell)
    found = [_setting(group) for group in groups.values()]
    labels = [setting.label for setting in found]
    # names are the user's; two settings that would be called the same keep the names of their cells
    return tuple(s if labels.count(s.label) == 1 else Setting(s.first.cell, s.strategy, s.cells) for s in found)


def _shared(cell: CellRecord) -> tuple[object, ...]:
    shown = (cell.prompt, cell.k, cell.draw, selection(cell), cell.order, cell.searched)
    return (_strategy(cell), *shown, recipe(cell), cell.trained_prompt, cell.trained_k)


def recipe(cell: CellRecord) -> str | None:
    """What its training shares with trainings from other seeds; of runs that name no training, the adapter."""
    if cell.train_seed is None or cell.training is None:
        return cell.adapter_sha256
    return re.sub(r"/?train_seed=[^/]*", "", cell.training)


def _strategy(cell: CellRecord) -> Strategy:
    # whatever is scored with the adapter on is fine-tuned, with demonstrations or without
    return "qlora" if cell.adapter_sha256 is not None else cell.strategy


def _setting(group: list[CellRecord]) -> Setting:
    first, strategy = group[0], _strategy(group[0])
    return Setting(label_of(first), strategy, tuple(group))


def label_of(cell: CellRecord) -> str:
    """The name of a cell's setting: its own without what differs between seeds."""
    if _strategy(cell) != "few_shot":
        return re.sub(r"/(train_)?seed=[^/]*", "", cell.cell)
    parts = [f"few_shot/{cell.prompt}/k={cell.k}"]
    parts += [f"select={select}"] if (select := selection(cell)) not in (None, "random") else []
    parts += [f"order={cell.order}"] if cell.order else []
    parts += [f"draw={cell.draw}"] if cell.draw else []
    return "/".join(parts)


def best_of_each(every: Sequence[Setting]) -> dict[Strategy, Setting]:
    """The setting with the lowest ppl_mean of each strategy that was run, cheapest strategy first."""
    found: dict[Strategy, Setting] = {}
    for strategy in STRATEGIES:
        if of_it := [setting for setting in every if setting.strategy == strategy]:
            found[strategy] = min(of_it, key=lambda setting: (setting.mean(), setting.label))
    return found


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
    name = ", ".join(parts)
    return name[0].upper() + name[1:]


def _shown(setting: Setting, alike: Sequence[Setting]) -> list[str]:
    """How the demonstrations were chosen, where that tells this setting from others."""
    shown = [other for other in alike if other.k]
    parts = []
    if len({other.select for other in shown}) > 1 or setting.select != "random":
        parts.append(str(setting.select))
    if setting.first.order and len({other.first.order for other in shown if other.select == setting.select}) > 1:
        parts.append(setting.first.order)
    if setting.first.draw and len({other.first.draw for other in shown if other.first.draw}) > 1:
        parts.append(f"draw={setting.first.draw}")
    return parts


def trained_with(cell: CellRecord) -> list[str]:
    """With what its adapter was trained, where that is not what it was scored with; no demonstrations go unsaid."""
    other = [cell.trained_prompt] if cell.trained_prompt not in (None, cell.prompt) else []
    other += [f"{cell.trained_k} demo{'s' * (cell.trained_k != 1)}"] if cell.trained_k else []
    return [f"trained with {' and '.join(map(str, other))}"] if other else []


def repeat_of(cell: CellRecord) -> list[str]:
    """What tells a cell from the others of its setting: `training seed 1`, `seed 0`."""
    found = [f"training seed {cell.train_seed}"] if cell.train_seed is not None else []
    return found + ([f"seed {cell.seed}"] if cell.seed is not None else [])


def items_of(setting: Setting, items: Mapping[str, Sequence[ItemScore]]) -> list[ItemScore]:
    """The rows of all seeds of a setting, one seed after the other."""
    missing = [cell.cell for cell in setting.cells if cell.cell not in items]
    if missing:
        raise ValueError(f"no rows for cell {missing[0]!r}")
    return [item for cell in setting.cells for item in items[cell.cell]]
