"""Limits of the grid as a whole: how many cells there are, and how long the prompts' names in their names are."""

from __future__ import annotations

from triptych.config.experiment import ExperimentConfig
from triptych.config.strategies import ShownConfig
from triptych.errors import ConfigError

__all__ = ["check_limits"]

_MOST_CELLS = 100_000
_LONGEST_NAME = 100
"""Bytes of a prompt's name, which stands in cells' names and so in every table."""


def check_limits(config: ExperimentConfig, source: str) -> None:
    """Find what is wrong with the number of cells and the names of prompts before anything is read.

    Args:
        config: the settings.
        source: the file they are from, for messages.

    Raises:
        ConfigError: there are too many cells, or a prompt's name is too long.
    """
    if (most := _at_most(config)) > _MOST_CELLS:
        raise ConfigError(
            "the grid is larger than any run can be",
            where=f"{source}, key `strategies`",
            found=f"up to {most:,} cells",
            expected=f"at most {_MOST_CELLS:,}",
            fix="give fewer prompts, k, seeds, draws, selections or orders: their numbers are multiplied",
        )
    longest = max(_prompt_names(config), key=lambda name: len(name.encode()), default="")
    if (length := len(longest.encode())) > _LONGEST_NAME:
        raise ConfigError(
            "a prompt's name is too long",
            where=f"{source}, key `prompts` or `strategies`",
            found=f"{length} bytes: {longest[:100]}…",
            expected=f"at most {_LONGEST_NAME} bytes",
            fix="give the prompt a shorter name",
        )


def _prompt_names(config: ExperimentConfig) -> set[str]:
    given = config.strategies
    names = set(config.prompts)
    for section in (given.zero_shot, given.few_shot, given.search, *(given.qlora.score if given.qlora else ())):
        names |= set(section.prompts or ()) if section else set()
    return names | ({given.qlora.prompt} if given.qlora and given.qlora.prompt else set())


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
