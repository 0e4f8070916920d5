"""Reading and writing records so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from triptych.errors import DataError
from triptych.records import manifest
from triptych.records.disk import disk_errors, is_there
from triptych.records.run_files import is_run_file, json_or_none
from triptych.records.schema import SCHEMA_VERSION, ItemScore, RunRecord

if TYPE_CHECKING:
    import pyarrow as pa

RecordT = TypeVar("RecordT", bound=BaseModel)
logger = logging.getLogger(__name__)
_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.tmp")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path`, and on success flush it to disk and rename it into place.

    In a folder with an open manifest the file is noted, and none but Triptych's own is replaced.

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
    """Read a record of one kind; a field missing, unknown or of the wrong type is a `DataError`."""
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


def copy_of(path: Path) -> Path:
    """Where the copy of a record that can't be computed again is: `run.lock.copy.json`, `curve.copy.json`."""
    return path.with_suffix(".copy.json")


def write_twice(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record, then its copy: a kill in between leaves a whole record and the copy of the one before."""
    write_json(path, value)
    write_json(copy_of(path), value)


def put_back(path: Path) -> bool:
    """Restore a record that is torn or missing from its copy, with a warning. Returns whether it was restored."""
    value = json_or_none(copy_of(path))
    if isinstance(json_or_none(path), dict) or not isinstance(value, dict):
        return False
    logger.warning("%s was %s; it is restored from its copy", path, "torn" if path.exists() else "missing")
    write_json(path, value)
    return True


def write_table(path: Path, lines: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write lines as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(lines, schema=schema)
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_table(path: Path, *, fix: str) -> pa.Table:
    """Read a Parquet file; one that is missing or torn is a `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (pa.ArrowException, OSError) as error:
        raise torn_table(path, str(error), fix=fix) from error


def torn_table(path: Path, found: str, *, fix: str) -> DataError:
    """The error for a Parquet file that can't be read, or not as what it should be."""
    return DataError("a record is torn or is not Parquet", where=str(path), found=found, fix=fix)


def write_items(path: Path, cells: Mapping[str, Iterable[ItemScore]]) -> None:
    """Write `items.parquet`: one line per cell x row, in the cells' order and the rows' own order.

    Each metric that some row has is a column, and so are the options' scores where rows have options.
    """
    import pyarrow as pa

    every = [(cell, item) for cell, items in cells.items() for item in items]
    metrics = list(dict.fromkeys(name for _, item in every for name in item.metrics))
    kinds = {
        "cell": pa.dictionary(pa.int32(), pa.string()),
        "id": pa.string(),
        "nll_nats": pa.float64(),
        **dict.fromkeys(("n_tokens", "n_chars"), pa.int32()),
        "ppl": pa.float64(),
        **dict.fromkeys(("n_prompt_tokens", "n_demos", "n_demos_dropped"), pa.int32()),
        "demo_ids": pa.list_(pa.string()),
    }
    if any(item.chosen is not None for _, item in every):
        kinds |= {"chosen": pa.string(), "option_nll": pa.list_(pa.float64()), "correct": pa.int32()}
    plain = [name for name in kinds if name != "cell"]
    kinds |= dict.fromkeys(metrics, pa.float64())
    lines = [{"cell": cell, **{name: getattr(item, name) for name in plain}, **item.metrics} for cell, item in every]
    facts = {"schema_version": str(SCHEMA_VERSION), "metrics": json.dumps(metrics)}
    write_table(path, lines, pa.schema(kinds, metadata=facts if metrics else {"schema_version": str(SCHEMA_VERSION)}))


def read_items(path: Path) -> dict[str, list[ItemScore]]:
    """Read `items.parquet` back: cell -> its rows, both in the written order."""
    fix = "delete this file and run the same command again: it is rebuilt from the finished cells"
    table = read_table(path, fix=fix)
    metrics = json.loads((table.schema.metadata or {}).get(b"metrics", b"[]"))
    names = [name for name in ItemScore.__slots__ if name != "metrics"]
    with_options = "chosen" in table.column_names
    fields = [name for name in names if with_options or name not in ("chosen", "option_nll", "correct")]
    try:
        values = {name: table.column(name).to_pylist() for name in [*fields, *metrics, "cell"]}
    except KeyError as error:
        raise torn_table(path, str(error), fix=fix) from error
    cells: dict[str, list[ItemScore]] = {}
    for index, cell in enumerate(values["cell"]):
        line = {name: values[name][index] for name in fields}
        line["option_nll"] = line.get("option_nll") or ()
        line["metrics"] = {name: value for name in metrics if (value := values[name][index]) is not None}
        cells.setdefault(cell, []).append(ItemScore.of(line))
    return cells
