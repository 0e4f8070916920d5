"""What an experiment reads: prompt templates and rows, and which rows may be shown as demonstrations."""

from __future__ import annotations

from pathlib import Path

from triptych.config.budgets import ALL
from triptych.config.experiment import ExperimentConfig
from triptych.config.sources import SAMPLES, split_sample
from triptych.data import Dataset, Row, load_dataset
from triptych.errors import ConfigError
from triptych.grid.cells import grid, trainings
from triptych.progress import Reporter
from triptych.prompts import Template, find_template, template_from_text
from triptych.prompts.template import template_from_mapping
from triptych.records.disk import is_there


def templates_of(config: ExperimentConfig) -> dict[str, Template]:
    """The template of every prompt the grid uses.

    Raises:
        TemplateError: one can't be found, or is malformed.
    """
    own = {}
    for name, given in config.prompts.items():
        if isinstance(given, str):
            own[name] = template_from_text(given, name=name)
        else:
            own[name] = template_from_mapping({**given, "name": name}, name=name, where=f"prompts.{name}")
    used = [*(cell.prompt for cell in grid(config)), *(training.prompt for training in trainings(config))]
    if search := config.strategies.search:
        used += search.prompts
    return {name: find_template(name, own, where="strategies") for name in dict.fromkeys(used)}


def read_data(config: ExperimentConfig, reporter: Reporter | None = None) -> Dataset:
    """The experiment's rows. Train rows are read if some strategy needs them, or if they are there: a warning names the
    test rows that occur in them.

    Raises:
        DataError: a file or a row is unusable.
    """
    given, strategies = config.data, config.strategies
    needed = strategies.few_shot or strategies.qlora or strategies.search or given.dev_rows
    there = given.dir in SAMPLES or is_there(split_sample(Path(given.dir or ".") / given.train)[0])
    train = given.train if needed or there else None
    return load_dataset(
        train=train,
        test=given.test,
        folder=given.dir,
        train_rows=given.train_rows if train else None,
        test_rows=given.test_rows,
        test_sample=given.test_sample,
        dev_rows=given.dev_rows if train else 0,
        seed=given.seed,
        strict=given.strict,
        columns=given.columns,
        derive=given.derive,
        reporter=reporter,
    )


def demo_pool(data: Dataset) -> list[Row]:
    """Training rows that may be shown: never one that occurs in the test set."""
    return [row for row in data.train if row.id not in data.overlapping_train_ids]


def check_budgets(config: ExperimentConfig, data: Dataset) -> None:
    """Check before any work that there are as many rows as the largest budget asks for.

    Raises:
        ConfigError: there are fewer.
    """
    numbers = [budget for budget in config.budgets or () if budget != ALL]
    if numbers and max(numbers) > len(data.train):
        raise ConfigError(
            "a budget is larger than the training data",
            where="budgets",
            found=f"{max(numbers):,}, {len(data.train):,} training rows",
            expected=f"at most {len(data.train):,}, or `all`",
            fix="write `all` in its place, or give more training rows",
        )


def check_pool(config: ExperimentConfig, data: Dataset) -> None:
    """Check before any work that every k fits the pool.

    Raises:
        ConfigError: k is larger than the pool.
    """
    pool = len(demo_pool(data))
    for keys, ks, _ in config.strategies.shown():
        # a training row is never its own demonstration
        available = pool - 1 if keys == "qlora.trained_" else pool
        if max(ks) > max(available, 0):
            raise ConfigError(
                "more demonstrations are asked for than there are training rows to show",
                where=f"strategies.{keys}k",
                found=f"k = {max(ks)}, {available} training rows that are not in the test set",
                fix="lower k, or give more training rows",
            )
