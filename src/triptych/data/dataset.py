"""One experiment's rows: train, dev and test, what they were read from, and what is wrong between them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.config.sources import SAMPLES, split_sample
from triptych.data.checks import Overlap, empty_outputs, find_overlap
from triptych.data.derive import Rules, unmatched
from triptych.data.derive import derive as derive_columns
from triptych.data.layouts import Layout
from triptych.data.readers import read_source, sample_folder
from triptych.data.row import Row
from triptych.data.sampling import split_dev, take
from triptych.errors import DataError
from triptych.progress import Reporter, Silent
from triptych.records.disk import at_home, is_there, sha256_of_file


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
    data set), `format` as detected, `n_rows` in the file, `n_rows_used`."""
    overlapping_train_ids: frozenset[str] = frozenset()
    """Train and dev rows that occur in test: never to be shown as demonstrations."""
    outputs: Mapping[str, int] = field(default_factory=dict)
    """The distinct outputs of all rows of the train file, also those that are not used, and how often each is there;
    the most frequent first."""


@dataclass(frozen=True)
class _File:
    """A file that was read: its path as given, the hash of what it holds, its rows."""

    path: str
    sha256: str
    rows: list[Row]
    format: str = ""
    n_rows: int = 0
    layout: Layout | None = None
    notes: tuple[str, ...] = ()

    def entry(self, used: Sequence[Row]) -> dict[str, Any]:
        facts = {"path": self.path, "sha256": self.sha256, "format": self.format}
        return {**facts, "n_rows": self.n_rows, "n_rows_used": len(used)}

    @property
    def is_sample(self) -> bool:
        return self.n_rows > len(self.rows)


def load_dataset(
    *,
    train: str | Path | None,
    test: str | Path | None,
    folder: str | Path | None,
    train_rows: int | None,
    test_rows: int | None,
    test_sample: int | None = None,
    dev_rows: int = 0,
    seed: int = 0,
    strict: bool = False,
    columns: Mapping[str, str] | None = None,
    derive: Rules | None = None,
    reporter: Reporter | None = None,
) -> Dataset:
    """Read train and test, hold out dev, and look for test rows in train.

    A source is a path, path#N for a sample of N rows, a hub id, or None. `folder` is put before relative paths, so a
    hub data set is named without one; "sample" and "sample-intents" are bundled, their files train.json and test.json
    unless others are named. `test_rows` takes the first rows of the test file, `test_sample` a nested sample of those.
    `dev_rows` are held out of the whole train file and `train_rows` are a nested sample of the rest, so that dev stays
    the same when `train_rows` changes. `seed` decides all three, and `path#N`. Overlap is looked for among the rows
    that are used; `strict` makes it an error. `columns`: our name (instruction, output, id, input, messages) -> the
    file's column. How each file was read is reported to `reporter`.

    Raises:
        DataError: a file or a row is unusable, more rows are asked for than there are, a rule of `columns` or `derive`
            fits nothing, or `strict` and rows overlap.
    """
    if folder is not None and str(folder) in SAMPLES:
        train, test = train or "train.json", test or "test.json"
    if train is None and test is None:
        raise DataError(
            "no data is named",
            where=str(folder) if folder is not None else None,
            found="neither train nor test",
            expected="at least one of them",
            fix=f"name the train or the test file, or use bundled data: folder {' or '.join(map(repr, SAMPLES))}",
        )
    train_file, test_file = (_load(source, folder, columns, seed) for source in (train, test))
    reporter = reporter or Silent()
    for file in (train_file, test_file):
        if file.layout is not None and (file.layout.name != "triptych" or file.is_sample):
            # nothing was guessed about a file in our own layout
            of = f" of {file.n_rows}" if file.is_sample else ""
            reporter.info(f"{file.path}: {len(file.rows)}{of} rows; {file.format}")
        for note in file.notes:
            reporter.info(f"{file.path}: {note}")
    if columns and not any(file.layout.name == "mapped" for file in (train_file, test_file) if file.layout):
        named = [file for file in (train_file, test_file) if file.layout]
        raise DataError(
            "data.columns names columns that no file has",
            where=" and ".join(file.path for file in named),
            found="; ".join(file.format for file in named),
            expected=", ".join(map(repr, columns.values())),
            fix="remove data.columns: the rows can be read without it",
        )
    derived, unmet = _derived((train_file, test_file), derive or {})
    train_file, test_file = derived
    with _naming(f"{train_file.path}, dev_rows {dev_rows}"):
        rest, dev_part = split_dev(train_file.rows, dev_rows, seed)
    with _naming(f"{train_file.path}, train_rows {train_rows}"):
        train_part = take(rest, train_rows, seed)
    first, warnings = _first(test_file, test_rows)
    with _naming(f"{test_file.path}, test_sample {test_sample}"):
        test_part = take(first, test_sample, seed)
    warnings += unmet
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
        outputs_of(train_file.rows),
    )


def outputs_of(rows: Iterable[Row]) -> dict[str, int]:
    """The distinct outputs of rows and how often each is there, the most frequent first, then in their order."""
    counts = Counter(row.output for row in rows if row.output is not None)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _load(source: str | Path | None, folder: str | Path | None, columns: Mapping[str, str] | None, seed: int) -> _File:
    if source is None:
        return _File("(no file named)", "", [])
    given = at_home(source) if folder is None else Path(at_home(folder)) / at_home(source)
    bundled = folder is not None and str(folder) in SAMPLES
    place = sample_folder(str(folder)) / source if bundled else given
    read = read_source(place, columns=columns, seed=seed)
    file, _ = split_sample(place)
    sha256 = sha256_of_file(file) if is_there(file, Path.is_file) else _sha256_of_rows(read.rows)
    return _File(str(given), sha256, read.rows, read.format, read.n_in_file, read.layout, read.notes)


def _derived(files: tuple[_File, _File], rules: Rules) -> tuple[list[_File], list[str]]:
    """The files with derived columns, and warnings on rules that may be wrong: a sample needn't have every value."""
    if not rules:
        return list(files), []
    done = []
    for file in files:
        with _naming(file.path):
            done.append(replace(file, rows=derive_columns(file.rows, rules)))
    rows = [row for file in done for row in file.rows]
    left = unmatched(rows, rules)
    for name, values in rules.items():
        mine = [(value, shadowed) for column, value, shadowed in left if column == name]
        if mine and (len(mine) == len(values) or not any(file.is_sample for file in done)):
            raise _no_match(name, *mine[0], len(rows))
    return done, [
        f"data.derive.{name}.{value} matches none of the {len(rows)} rows that are used" for name, value, _ in left
    ]


def _no_match(name: str, value: str, shadowed: bool, n: int) -> DataError:
    return DataError(
        f"a rule of data.derive gives no row the value {value!r}",
        where=f"data.derive.{name}.{value}",
        found=f"all rows it matches have another value of {name!r} already" if shadowed else f"no match in {n} rows",
        expected="a regular expression that is found in the instruction of at least one row",
        fix="put it before the values that take its rows"
        if shadowed
        else "correct the expression, or remove the value",
    )


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
        where = f"{where}, {error.where}" if error.where else where
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
        fix="remove these rows from train (or from test), or turn strict off to continue with a warning",
    )
