"""Reading and writing records so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from triptych.errors import DataError
from triptych.records import manifest
from triptych.records.disk import disk_errors
from triptych.records.home import is_there
from triptych.records.run_files import is_run_file
from triptych.records.schema import SCHEMA_VERSION, ItemScore, RunRecord

RecordT = TypeVar("RecordT", bound=BaseModel)

_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.tmp")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path`, and on success flush it to disk and rename it into place.

    In a folder that is kept (`manifest.keep`) the file is noted, and none but Triptych's own is replaced.

    Raises:
        DiskError: the disk is full or the folder can't be written; the old file is as it was.
        ForeignFileError: a file of the user's is in its place.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            manifest.replacing(path, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a run's folder: temporary neighbours of its files.

    Only beside names that a run's files have: the folder may be inside one that is full of others.
    """
    import psutil

    for path in folder.rglob(".*.tmp"):
        owner = _TEMPORARY.fullmatch(path.name)
        if owner is None or path.is_symlink() or not path.is_file() or psutil.pid_exists(int(owner[2])):
            continue
        if is_run_file(path.with_name(owner[1]).relative_to(folder).as_posix()):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: BaseModel | Mapping[str, Any]) -> None:
    """Write a record or a plain mapping as indented UTF-8 JSON. NaN and infinity are refused: they aren't JSON."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    write_text(path, json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON written by `write_json`.

    Raises:
        DataError: the file is missing or torn.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if is_there(path):
            raise
        raise _missing(path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "a record is torn or was edited",
            where=str(path),
            found=str(error),
            fix="delete this file and run the same command again: only what it held is computed again",
        ) from error


def _missing(path: Path) -> DataError:
    there = is_there(path.parent, Path.is_dir)
    return DataError(
        "a record is missing",
        where=str(path),
        found=None if there else f"no folder {path.parent}",
        fix="run the experiment again to make it" if there else "give the folder of a run",
    )


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """Read one record of a known kind; a field missing, unknown or of the wrong type is a `DataError`."""
    value = read_json(path)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"this is no {kind.__name__} that this version of Triptych knows",
            where=f"{path}, key {'.'.join(map(str, first['loc']))}",
            found=first["msg"],
            fix="use the version that wrote it, or delete the file and run the same command again",
        ) from error


def read_run(folder: Path) -> RunRecord:
    """Read `results.json` of a run folder, refusing other schema versions by name."""
    path = folder / "results.json"
    value = read_json(path)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            "this run was written with another schema",
            where=str(path),
            found=f"schema_version {version!r}",
            expected=f"schema_version {SCHEMA_VERSION}",
            fix="run the experiment again with this version of Triptych, or read it with the version that wrote it",
        )
    return read_record(path, RunRecord)


def write_items(path: Path, cells: Mapping[str, Iterable[ItemScore]]) -> None:
    """Write `items.parquet`: one line per cell x row, in the cells' order and the rows' own order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = [(cell, item) for cell, items in cells.items() for item in items]

    def column(kind: pa.DataType, get: Callable[[ItemScore], Any]) -> pa.Array:
        return pa.array([get(item) for _, item in lines], type=kind)

    table = pa.table(
        {
            "cell": pa.array([cell for cell, _ in lines], type=pa.string()).dictionary_encode(),
            "id": column(pa.string(), lambda i: i.id),
            "nll_nats": column(pa.float64(), lambda i: i.nll_nats),
            "n_tokens": column(pa.int32(), lambda i: i.n_tokens),
            "n_chars": column(pa.int32(), lambda i: i.n_chars),
            "ppl": column(pa.float64(), lambda i: i.ppl),
            "n_prompt_tokens": column(pa.int32(), lambda i: i.n_prompt_tokens),
            "n_demos": column(pa.int32(), lambda i: i.n_demos),
            "n_demos_dropped": column(pa.int32(), lambda i: i.n_demos_dropped),
            "demo_ids": column(pa.list_(pa.string()), lambda i: list(i.demo_ids)),
        },
        metadata={"schema_version": str(SCHEMA_VERSION)},
    )
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_items(path: Path) -> dict[str, list[ItemScore]]:
    """Read `items.parquet` back: cell -> its rows, both in the written order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [name for name in ItemScore.__slots__ if name != "demo_ids"]
    try:
        table = pq.read_table(path)
        values = {name: table.column(name).to_pylist() for name in [*fields, "demo_ids", "cell"]}
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(
            "a record is torn or is not Parquet",
            where=str(path),
            found=str(error),
            fix="delete this file and run the same command again: it is rebuilt from the finished cells",
        ) from error
    cells: dict[str, list[ItemScore]] = {}
    for index, cell in enumerate(values["cell"]):
        plain = {name: values[name][index] for name in fields}
        cells.setdefault(cell, []).append(ItemScore(**plain, demo_ids=tuple(values["demo_ids"][index])))
    return cells
