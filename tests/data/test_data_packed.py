"""Packed files hold the same rows; torn ones are one clear message."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych.data import Row, read_rows, read_source
from triptych.errors import DataError

ROWS = [Row(f"r{n}", f"問\n{n}", f"答 {n}") for n in range(300)]
OBJECTS = [{"id": row.id, "instruction": row.instruction, "output": row.output} for row in ROWS]


def content(kind: str) -> bytes:
    if kind == "parquet":
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(OBJECTS), file)
        return file.getvalue()
    if kind in ("csv", "tsv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, ["id", "instruction", "output"], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(OBJECTS)
        return text.getvalue().encode()
    return (json.dumps(OBJECTS) if kind == "json" else "\n".join(map(json.dumps, OBJECTS))).encode()


def pack(plain: bytes, packed: str) -> bytes:
    if packed == "gz":
        return gzip.compress(plain)
    return bytes(pa.Codec("zstd").compress(plain, asbytes=True))


@pytest.mark.parametrize("packed", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_a_packed_file(tmp_path: Path, kind: str, packed: str) -> None:
    path = tmp_path / f"rows.{kind}.{packed}"
    path.write_bytes(pack(content(kind), packed))
    read = read_source(path)
    assert read.rows == ROWS
    assert read.kind == f"{kind}.{packed}"
    assert read_source(f"{path}#20").n_in_file == 300
    assert read_rows(f"{path}#20") == read_rows(_plain(tmp_path, kind, "#20"))


def _plain(folder: Path, kind: str, sample: str) -> str:
    (folder / f"plain.{kind}").write_bytes(content(kind))
    return f"{folder / 'plain'}.{kind}{sample}"


@pytest.mark.parametrize("packed", ["gz", "zst"])
@pytest.mark.parametrize("harm", ["cut", "other", "flipped"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_torn_packed_file(tmp_path: Path, kind: str, packed: str, harm: str) -> None:
    path = tmp_path / f"rows.{kind}.{packed}"
    whole = pack(content(kind), packed)
    middle = len(whole) // 2
    broken = {
        "cut": whole[:middle],
        "other": content("json"),
        "flipped": whole[:8] + bytes(255 - byte for byte in whole[8:middle]) + whole[middle:],
    }[harm]
    path.write_bytes(broken)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert str(path) in (caught.value.where or "")


def test_a_packed_file_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "rows.tar.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "rows.tar.gz")
    assert caught.value.found == "the suffix '.tar.gz'"
    assert ".gz or .zst" in (caught.value.expected or "")


def test_an_empty_packed_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"\n"))
    with pytest.raises(DataError, match="the file is empty"):
        read_rows(tmp_path / "rows.jsonl.gz")


def test_a_file_in_two_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    lines = content("jsonl")
    half = lines.index(b"\n", len(lines) // 2) + 1
    for packed in ("gz", "zst"):
        path = tmp_path / f"rows.jsonl.{packed}"
        path.write_bytes(pack(lines[:half], packed) + pack(lines[half:], packed))
        assert read_rows(path) == ROWS
