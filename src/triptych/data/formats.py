"""Which suffix is parsed by what, and what is unpacked first. `triptych.data.validate` judges the rows."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from triptych.data.json_files import parse_json, parse_jsonl
from triptych.data.row import RawStream
from triptych.data.table_files import parse_csv, parse_parquet
from triptych.errors import DataError

Parser = Callable[[IO[bytes], str], RawStream]
"""(the open file, the name to use for it in errors) -> its raw rows, read as they are asked for."""

PARSERS: dict[str, Parser] = {
    ".json": parse_json,
    ".jsonl": parse_jsonl,
    ".ndjson": parse_jsonl,
    ".csv": partial(parse_csv, delimiter=","),
    ".tsv": partial(parse_csv, delimiter="\t"),
    ".parquet": parse_parquet,
}
"""What reads which suffix."""

_PACKED = (".gz", ".zst")

KINDS = f"{', '.join(PARSERS)}, each also with {' or '.join(_PACKED)} after it"
"""For messages."""


def kind_of(name: str) -> tuple[str, str]:
    """The suffix that says what the file holds, and the one that says how it is packed ("" if it isn't)."""
    path = Path(name)
    packed = path.suffix.lower()
    if packed not in _PACKED:
        return packed, ""
    return path.with_suffix("").suffix.lower(), packed


@contextmanager
def opened(path: Path, source: str) -> Iterator[IO[bytes]]:
    """Open a file for reading its bytes, unpacked; Parquet inside a packed file is unpacked into memory.

    Raises:
        DataError: what is packed is torn, or not packed that way.
    """
    kind, packed = kind_of(path.name)
    with path.open("rb") as file:
        if not packed:
            yield file
            return
        try:
            content = _unpacked(file, packed)
            yield io.BytesIO(content.read()) if kind == ".parquet" else content
        # gzip's own and zlib's errors; Arrow's for zstd are OSError and ValueError
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(
                f"the file can't be unpacked as {packed}",
                where=source,
                found=f"{type(error).__name__}: {ascii(str(error))[:200]}",
                expected=f"a whole file packed as its suffix {packed} says",
                fix="write or download it again, or unpack it yourself and give the unpacked file",
            ) from error


def _unpacked(file: IO[bytes], packed: str) -> IO[bytes]:
    if packed == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(file, "zstd"), 1 << 18)
