"""Where rows come from: a file, by its suffix, or the hub."""

from __future__ import annotations

import difflib
from pathlib import Path

from triptych.data.formats import PARSERS, Parser
from triptych.data.hub import looks_like_hub_id, read_hub
from triptych.data.row import Row
from triptych.data.validate import to_rows
from triptych.errors import DataError

__all__ = ["read_rows"]

_KINDS = ", ".join(PARSERS)


def read_rows(source: str | Path, *, need_output: bool = True) -> list[Row]:
    """Read the rows of a .json, .jsonl, .ndjson, .csv, .tsv or .parquet file, or of a hub data set.

    Columns are `id`, `instruction`, `output`. Without `id` the rows are called "row-1", "row-2", ...; integer ids
    become text. With `need_output=False` (files to predict) the output may be missing or null. Text is kept as it is.
    A string that is no existing path but reads like "owner/name" or "owner/name:split" is looked up on the hub.

    Raises:
        DataError: the file or a row in it can't be used; the message says where, what was found, and how to mend it.
    """
    if isinstance(source, str) and not _exists(Path(source), source) and looks_like_hub_id(source):
        return to_rows(read_hub(source), source, need_output=need_output)
    path = Path(source)
    content = _read(path, str(source))
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        raise DataError(
            "the file is empty",
            where=str(source),
            found=f"{len(content)} bytes, none of them text",
            expected="at least one row",
            fix="check that this is the right file, and that whatever wrote it finished",
        )
    return to_rows(_parser(path)(content, str(source)), str(source), need_output=need_output)


def _exists(path: Path, source: str) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name too long for the file system, a folder that may not be entered
        raise _unreadable(source, error) from error


def _read(path: Path, source: str) -> bytes:
    if not _exists(path, source):
        raise _missing(path, source)
    if path.is_dir():
        raise _folder(path, source)
    _parser(path)  # before reading: a 10 GB archive given by mistake should fail at once
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(source, error) from error


def _parser(path: Path) -> Parser:
    suffix = path.suffix.lower()
    if suffix not in PARSERS:
        raise DataError(
            "this kind of file can't be read",
            where=str(path),
            found=f"the suffix {suffix!r}" if suffix else "a name without a suffix",
            expected=f"one of {_KINDS}",
            fix="rename the file if it is one of these, else convert it to .jsonl",
        )
    return PARSERS[suffix]


def _missing(path: Path, source: str) -> DataError:
    folder = path.parent
    names = _names(folder)
    near = difflib.get_close_matches(path.name, names, n=3) or [name for name in names if _is_data(name)][:5]
    return DataError(
        "there is no such file",
        where=source,
        found=f"no {path.name!r} in {folder.absolute()}" if folder.is_dir() else f"no folder {folder.absolute()}",
        expected=f"a file ({_KINDS}), or owner/name[:split] on the hub",
        fix=f"did you mean {' or '.join(str(folder / name) for name in near)}?" if near else "check the path",
    )


def _folder(path: Path, source: str) -> DataError:
    names = [name for name in _names(path) if _is_data(name)]
    return DataError(
        "this is a folder, not a file",
        where=source,
        found=f"a folder with {', '.join(names[:5])}" if names else "a folder without data files",
        expected=f"a file ({_KINDS})",
        fix=f"give the file, e.g. {path / names[0]}" if names else "give the path of a file",
    )


def _unreadable(source: str, error: OSError) -> DataError:
    return DataError(
        "the file can't be opened",
        where=source,
        found=error.strerror or str(error),
        expected="a file that you may read",
        fix="check the path and its permissions",
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:  # there is nothing to suggest from
        return []


def _is_data(name: str) -> bool:
    return Path(name).suffix.lower() in PARSERS
