"""What the settings say about the grid as a whole: how many cells there are, and how long their names are."""

from __future__ import annotations

from triptych.errors import ConfigError
from triptych.experiment.cells import candidates, grid, trainings
from triptych.experiment.config import ExperimentConfig
from triptych.experiment.strategies import ShownConfig

__all__ = ["check_grid"]

_MOST_CELLS = 100_000
_LONGEST_NAME = 200
"""Bytes of a cell's name, which stands in every table (its file's name is shortened: `records.names`)."""


def check_grid(config: ExperimentConfig, source: str) -> None:
    """Find what can be wrong with cells' number and names before anything is read.

    Args:
        config: the settings.
        source: the file they are from, for messages.

    Raises:
        ConfigError: there are too many cells, or a cell's name is too long.
    """
    if (most := _at_most(config)) > _MOST_CELLS:
        raise ConfigError(
            "the grid is larger than any run can be",
            where=f"{source}, key `strategies`",
            found=f"up to {most:,} cells",
            expected=f"at most {_MOST_CELLS:,}",
            fix="give fewer prompts, k, seeds, draws, selections or orders: their numbers are multiplied",
        )
    cells = grid(config) + (candidates(config.strategies.search) if config.strategies.search else [])
    names = [cell.name for cell in cells] + [training.name for training in trainings(config)]
    longest = max(names, key=lambda name: len(name.encode()), default="")
    if (length := len(longest.encode())) > _LONGEST_NAME:
        raise ConfigError(
            "a cell's name is too long",
            where=f"{source}, key `prompts` or `strategies`",
            found=f"{length} bytes: {longest[:100]}…",
            expected=f"at most {_LONGEST_NAME} bytes",
            fix="give the prompt a shorter name",
        )


def _at_most(config: ExperimentConfig) -> int:
    """A bound on the number of cells, without making them."""
    given = config.strategies
    most = len(given.zero_shot.prompts) if given.zero_shot else 0
    if given.few_shot:
        most += len(given.few_shot.prompts) * _shown(given.few_shot)
    if given.search:
        most += len(given.search.prompts) * (1 + _shown(given.search))
    if given.qlora:
        n_trainings = len(given.qlora.trained_k) * len(given.qlora.seeds or (0,))
        most += n_trainings * (1 + sum(max(1, len(under.prompts)) * _shown(under) for under in given.qlora.score))
    return most


def _shown(config: ShownConfig) -> int:
    drawn, ranked = len(config.draw) * len(config.seeds), len(config.order)
    return len(config.select) * len(config.k) * max(drawn, ranked)
