"""One experiment's rows: train, dev and test, what they were read from, and what is wrong between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.data.bundled import SAMPLE, sample_folder
from triptych.data.checks import Overlap, empty_outputs, find_overlap
from triptych.data.readers import read_rows
from triptych.data.row import Row
from triptych.data.splits import split_dev, take
from triptych.errors import DataError

__all__ = ["Dataset", "load_dataset", "sha256_of_file"]


@dataclass(frozen=True)
class Dataset:
    """The rows of an experiment. A role that was not asked for has no rows."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    """Held out of the train file, to choose a checkpoint by."""
    test: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Role ("train", "dev", "test") -> `path` as given, `sha256` of the file's bytes (of the rows, as JSON, for a hub
    data set), `n_rows` in the file, `n_rows_used`."""
    overlapping_train_ids: frozenset[str] = frozenset()
    """Train and dev rows that occur in test: never to be shown as demonstrations."""


@dataclass(frozen=True)
class _File:
    """A file that was read: its path as given, the hash of what it holds, its rows."""

    path: str
    sha256: str
    rows: list[Row]

    def entry(self, used: Sequence[Row]) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "n_rows": len(self.rows), "n_rows_used": len(used)}


def load_dataset(
    *,
    train: str | Path | None,
    test: str | Path | None,
    folder: str | Path | None,
    train_rows: int | None,
    test_rows: int | None,
    dev_rows: int = 0,
    seed: int = 0,
    strict: bool = False,
) -> Dataset:
    """Read train and test, hold out dev, and look for test rows in train.

    `folder` is put before relative paths, so a hub data set is named without one; "sample" is the bundled sample, its
    files train.json and test.json unless others are named. `test_rows` takes the first rows of the test file.
    `dev_rows` are held out of the whole train file and `train_rows` are a nested sample of the rest, so that dev stays
    the same when `train_rows` changes. Overlap is looked for among the rows that are used.

    Raises:
        DataError: a file or a row is unusable, more rows are asked for than there are, or `strict` and rows overlap.
    """
    if folder is not None and str(folder) == SAMPLE:
        train, test = train or "train.json", test or "test.json"
    if train is None and test is None:
        raise DataError(
            "no data is named",
            where=str(folder) if folder is not None else None,
            found="neither train nor test",
            expected="at least one of them",
            fix=f"name the train or the test file, or use the bundled data: folder {SAMPLE!r}",
        )
    train_file, test_file = _load(train, folder), _load(test, folder)
    with _naming(f"{train_file.path}, dev_rows {dev_rows}"):
        rest, dev_part = split_dev(train_file.rows, dev_rows, seed)
    with _naming(f"{train_file.path}, train_rows {train_rows}"):
        train_part = take(rest, train_rows, seed)
    test_part, warnings = _first(test_file, test_rows)
    if empty := empty_outputs(test_part):
        warnings.append(empty)
    used = [("train", train_file, train_part), ("dev", train_file, dev_part), ("test", test_file, test_part)]
    overlap = find_overlap([*train_part, *dev_part], test_part)
    if overlap:
        warnings.append(_report(overlap, f"{train_file.path} and {test_file.path}", strict=strict))
    return Dataset(
        tuple(train_part),
        tuple(dev_part),
        tuple(test_part),
        tuple(warnings),
        {role: file.entry(rows) for role, file, rows in used if rows},
        overlap.train_ids,
    )


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(source: str | Path | None, folder: str | Path | None) -> _File:
    if source is None:
        return _File("(no file named)", "", [])
    given = source if folder is None else Path(folder) / source
    place = sample_folder() / source if folder is not None and str(folder) == SAMPLE else given
    rows = read_rows(place)
    return _File(str(given), sha256_of_file(place) if Path(place).is_file() else _sha256_of_rows(rows), rows)


def _sha256_of_rows(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.id, row.instruction, row.output], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _first(file: _File, n: int | None) -> tuple[list[Row], list[str]]:
    """The first `n` rows, and a warning if there are fewer."""
    if n is not None and n < 1:
        raise DataError(
            "that many test rows can't be scored",
            where=f"{file.path}, test_rows {n}",
            found=f"{n} asked for",
            expected="1 or more, or none for all",
            fix="ask for more, or leave the number out to use them all",
        )
    fewer = n is not None and bool(file.rows) and n > len(file.rows)
    warning = f"{n} test rows were asked for; {file.path} has {len(file.rows)} and all of them are used"
    return file.rows[:n], [warning] if fewer else []


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Say which file and setting an error is about: `take` and `split_dev` only see rows and a number."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, where=where, found=error.found, expected=error.expected, fix=error.fix) from error


def _report(overlap: Overlap, where: str, *, strict: bool) -> str:
    if not strict:
        return (
            f"{overlap.message()}. Scores after training may be memory there; these train rows are never shown as "
            "demonstrations. Remove them from train to be sure."
        )
    raise DataError(
        "test rows occur in train",
        where=where,
        found=overlap.message(),
        expected="no test row in train: this data is read strictly",
        fix="remove these rows from train (or from test), or turn strict off to go on with a warning",
    )
