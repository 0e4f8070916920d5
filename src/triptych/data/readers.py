"""Where rows come from: a file, by its suffix, the hub, or memory; whole, or a sample of it."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from triptych.config.data import ROW_PARTS
from triptych.config.sources import split_sample
from triptych.data.formats import KINDS, PARSERS, Parser, kind_of, opened
from triptych.data.hub import looks_like_hub_id, read_hub
from triptych.data.json_files import stream_of
from triptych.data.layouts import NESTED, Layout
from triptych.data.row import RawStream, Row
from triptych.data.sampling import sample
from triptych.data.table_files import parse_parquet
from triptych.data.validate import to_rows
from triptych.errors import DataError
from triptych.progress import Reporter, Silent
from triptych.records.disk import at_home, is_there

_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What was read, and how the file writes it."""

    rows: list[Row]
    n_in_file: int
    """More than there are rows if a sample was asked for."""
    kind: str
    """The suffix without its dot, e.g. "jsonl.gz", or "hub"."""
    layout: Layout
    notes: tuple[str, ...] = ()
    """What was left out of the rows, or read in a particular way: a sentence each."""

    @property
    def format(self) -> str:
        """What was detected, e.g. "jsonl.gz, alpaca (instruction + input -> output)"."""
        return f"{self.kind}, {self.layout.describe()}"


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows that are in memory instead of in a file, as the objects that a JSON file of them would have."""

    values: tuple[Any, ...]
    name: str
    """For messages."""

    def __str__(self) -> str:
        """What messages call them."""
        return self.name

    @property
    def sha256(self) -> str:
        """Of the rows as a `.jsonl` file."""
        lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in self.values)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def sample_folder(name: str = "sample") -> Path:
    """The folder of a bundled sample (`config.sources.SAMPLES`): train.json and test.json, written for Triptych."""
    return Path(str(files("triptych.data") / name))


def read_rows(
    source: str | Path | GivenRows,
    *,
    need_output: bool = True,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> list[Row]:
    """The rows of `read_source`; its notes are reported to the reporter."""
    read = read_source(source, need_output=need_output, columns=columns, seed=seed)
    for note in read.notes:
        (reporter or Silent()).info(f"{source}: {note}")
    return read.rows


def read_source(
    source: str | Path | GivenRows,
    *,
    need_output: bool = True,
    to_answer: bool | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> RowsRead:
    """Read the rows of a .json, .jsonl, .ndjson, .csv, .tsv or .parquet file (also .gz or .zst), or a hub data set.

    The columns' names decide which hold the rows (see `triptych.data.layouts`). Rows without ids are called
    "row-1", "row-2", ... by their place in the file; integer ids become text. Text is kept as it is.
    A string that is no existing path but reads like "owner/name" or "owner/name:split" is looked up on the hub.
    "path#500" is a sample of 500 rows (see `triptych.data.sampling`), if there is no file of that name; then only
    these rows are kept in memory, and only they are checked.

    Args:
        source: the path or hub id, or the rows themselves.
        need_output: False for files to predict: the output may be missing or null.
        to_answer: whether a conversation that ends with a user or tool turn asks for the next answer, or is read as
            for a score, where its last answer is the output; None: the first where outputs aren't needed.
        columns: instruction, output, id, input or messages -> the name of the file's column.
        seed: of the sample.

    Raises:
        DataError: the file or a row in it can't be used; the message says where, what was found, and how to fix it.
    """
    to_answer = not need_output if to_answer is None else to_answer

    def made(stream: RawStream, kind: str, name: str, n: int | None = None, whole: str = "") -> RowsRead:
        total = None
        if n is not None:
            drawn, total = sample(stream.rows, n, seed, whole)
            stream = RawStream(stream.columns, iter(drawn), stream.notes)
        rows, layout, notes = to_rows(stream, name, need_output=need_output, to_answer=to_answer, columns=columns)
        return RowsRead(rows, total or len(rows), kind, layout, notes)

    if isinstance(source, GivenRows):
        return made(stream_of(((None, value) for value in source.values), source.name), "memory", source.name)
    whole, n = split_sample(at_home(source))
    path, name = Path(whole), str(whole)
    if isinstance(whole, str) and not _exists(path, whole) and looks_like_hub_id(whole):
        return made(read_hub(whole), "hub", str(source), n, whole)
    _check(path, name, str(source))
    kind, packed = kind_of(path.name)
    with _readable(name), opened(path, name) as file:
        return made(_parser(path, columns)(file, name), (kind + packed)[1:], name, n, name)


def _check(path: Path, name: str, source: str) -> None:
    """Fail at once if there is no such file, if its name is of no kind that is read, or if it is empty."""
    if not _exists(path, name):
        raise _missing(path, source)
    if path.is_dir():
        raise _folder(path, name)
    _parser(path)  # before reading: a 10 GB archive given by mistake should fail at once
    with _readable(name), opened(path, name) as file:
        head = file.read(_HEAD)
    if len(head) < _HEAD and not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise DataError(
            "the file is empty",
            where=name,
            found=f"{len(head)} bytes, none of them text",
            expected="at least one row",
            fix="check that this is the right file, and that whatever wrote it finished",
        )


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            "the file can't be opened",
            where=name,
            found=error.strerror or str(error) or type(error).__name__,
            expected="a file that you may read",
            fix="check the path and its permissions",
        ) from error


def _exists(path: Path, source: str) -> bool:
    with _readable(source), suppress(ValueError):  # a NUL in the name, on older Pythons
        return path.exists()  # OSError: a name too long for the file system, a folder that may not be entered
    return False


def _parser(path: Path, columns: Mapping[str, str] | None = None) -> Parser:
    kind, packed = kind_of(path.name)
    if kind not in PARSERS:
        raise DataError(
            "this kind of file can't be read",
            where=str(path),
            found=f"the suffix {kind + packed!r}" if kind + packed else "a name without a suffix",
            expected=f"one of {KINDS}",
            fix="rename the file if it is one of these, else convert it to .jsonl",
        )
    if kind == ".parquet" and columns:
        return partial(parse_parquet, wanted=(*ROW_PARTS, *NESTED, *columns.values()))
    return PARSERS[kind]


def _missing(path: Path, source: str) -> DataError:
    folder, where = path.parent, path.parent.absolute()
    names = _names(folder)
    near = difflib.get_close_matches(path.name, names, n=3) or [name for name in names if _is_data(name)][:5]
    return DataError(
        "there is no such file",
        where=source,
        found=f"no {path.name!r} in {where}" if is_there(folder, Path.is_dir) else f"no folder {where}",
        expected=f"a file ({KINDS}), or owner/name[:split] on the hub",
        fix=f"did you mean {' or '.join(str(folder / name) for name in near)}?" if near else "check the path",
    )


def _folder(path: Path, source: str) -> DataError:
    names = [name for name in _names(path) if _is_data(name)]
    return DataError(
        "this is a folder, not a file",
        where=source,
        found=f"a folder with {', '.join(names[:5])}" if names else "a folder without data files",
        expected=f"a file ({KINDS})",
        fix=f"give the file, e.g. {path / names[0]}" if names else "give the path of a file",
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (OSError, ValueError):  # there is nothing to suggest from
        return []


def _is_data(name: str) -> bool:
    return kind_of(name)[0] in PARSERS
