"""The section `data`: which rows, and what is a row's part in which column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import regex
from pydantic import Field, field_validator

from triptych.config.choices import LARGEST_SEED, MANY
from triptych.config.metrics import Choices
from triptych.config.section import Section
from triptych.errors import DataError

ROW_PARTS = ("id", "instruction", "input", "output", "messages", "system")
"""What `data.columns` can say the column of."""
_LONGEST_RULE = 10_000
"""Characters of a regular expression."""


class DataConfig(Section):
    """Which rows."""

    dir: str | None = None
    """Folder of the files; `sample` and `sample-intents` are bundled."""
    train: str = "train.json"
    test: str = "test.json"
    train_rows: int | None = Field(None, ge=1, le=MANY)
    """A seeded sample of this many training rows; null for all. Smaller samples are subsets of larger ones."""
    test_rows: int | None = Field(None, ge=1, le=MANY)
    """This many test rows, the first; null for all."""
    test_sample: int | None = Field(None, ge=1, le=MANY)
    """A seeded sample of this many of the test rows; null for all. Smaller samples are subsets of larger ones."""
    dev_rows: int = Field(0, ge=0, le=MANY)
    """Rows held out of train, to choose a checkpoint or (`strategies.search`) a prompt by."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of the samples above."""
    strict: bool = False
    """Make test rows that occur in train an error instead of a warning."""
    columns: dict[str, str] | None = None
    """Our names (id, instruction, input, output) and the file's, for files whose columns aren't detected."""
    choices: Choices = "auto"
    """Options of the metric `accuracy`: `auto` for the distinct outputs of all training rows (at most 200), a list, or
    a column of the data that holds each row's own, as a list."""
    derive: dict[str, dict[str, tuple[str, ...]]] = Field({})
    """Columns made from the instruction: name -> value -> regular expressions, the first that is found decides."""

    @field_validator("derive", mode="before")
    @classmethod
    def _one_expression_is_a_list(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {k: [v] if isinstance(v, str) else v for k, v in rules.items()} if isinstance(rules, dict) else rules
            for name, rules in value.items()
        }

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        with _as_value_error():
            check_columns(value or {})
        return value

    @field_validator("derive")
    @classmethod
    def _check_rules(cls, value: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, dict[str, tuple[str, ...]]]:
        with _as_value_error():
            for name, rules in value.items():
                for result, texts in rules.items():
                    for text in texts:
                        compile_rule(text, f"{name}.{result}")
        return value


@contextmanager
def _as_value_error() -> Iterator[None]:
    """What a validator may raise: pydantic collects it and knows the key."""
    try:
        yield
    except DataError as error:
        raise ValueError("; ".join(filter(None, (error.what, error.where, error.expected, error.fix)))) from error


def check_columns(given: Mapping[str, str], source: str = "data.columns") -> None:
    """See that `data.columns` names parts of a row.

    Raises:
        DataError: it names something else.
    """
    for name, column in given.items():
        if name in ROW_PARTS:
            continue
        near = difflib.get_close_matches(str(name), ROW_PARTS, n=1, cutoff=0.5)
        turned = f"{column}: {name}" if column in ROW_PARTS else f"{near[0]}: {column}" if near else None
        raise DataError(
            f"data.columns names {name!r}, which is no part of a row",
            where=source,
            found=f"{name}: {column}",
            expected=f"one of {', '.join(ROW_PARTS)}, and after it the file's column",
            fix=f"did you mean `{turned}`?" if turned else "remove it: other columns keep their names",
        )


def compile_rule(text: str, key: str) -> Any:
    """A regular expression of `data.derive`, compiled by the package `regex`, which can stop a search.

    Raises:
        DataError: it isn't one; `key` says where it stands.
    """
    try:
        if len(text) > _LONGEST_RULE:
            raise ValueError(f"{len(text)} characters, and at most {_LONGEST_RULE} are read")
        re.compile(text)  # what Python takes is what is documented; `regex` takes more
        return regex.compile(text)
    except (re.error, regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise DataError(
            "a rule of data.derive is not a regular expression",
            where=f"data.derive.{key}",
            found=f"{text[:80]!r}: {error}",
            expected="what Python's re.search takes",
            fix="put a backslash before characters such as ( [ * + ? that are meant as they are",
        ) from error
