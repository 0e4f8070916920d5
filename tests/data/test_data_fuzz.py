"""Data files broken at random give rows or one clean error."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuzz import fuzz, seconds
from triptych.data import load_dataset, read_rows
from triptych.data.survey import survey


def _objects() -> list[dict[str, object]]:
    return [
        {
            "id": f"r{n}",
            "instruction": f'翻譯 {n}：\n"早,安"',
            "input": "x" if n % 2 else "",
            "output": f"早 {n}",
            "n": n,
        }
        for n in range(6)
    ]


def seeds() -> dict[str, bytes]:
    objects = _objects()
    own = [{key: row[key] for key in ("id", "instruction", "output")} for row in objects]
    turns = [
        {"conversations": [{"from": who, "value": f"{who} {n}"} for who in ("system", "human", "gpt")]}
        for n in range(4)
    ]
    call = {"name": "f", "arguments": '{"a": 1}'}
    rich = [
        {
            "messages": [
                {"role": "system", "content": None},
                {"role": "user", "content": f"hi {n}"},
                {"role": "assistant", "content": "", "tool_calls": [{"function": call}], "reasoning_content": "r"},
                {"role": "tool", "content": "x", "name": "f"},
                {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
                {"role": "user", "content": "thanks"},
            ],
            "system": "be brief" if n else "",
            "tools": [call],
        }
        for n in range(3)
    ]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(own[0]))
    writer.writeheader()
    writer.writerows(own)
    parquet, nested = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.Table.from_pylist(objects), parquet)
    pq.write_table(pa.Table.from_pylist(turns), nested)
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in objects).encode()
    return {
        "own.json": json.dumps(own, ensure_ascii=False, indent=1).encode(),
        "alpaca.jsonl": lines,
        "turns.jsonl": "\n".join(json.dumps(row) for row in turns).encode(),
        "turns.json": json.dumps(turns).encode(),
        "rich.jsonl": "\n".join(json.dumps(row) for row in rich).encode(),
        "rich.json": json.dumps(rich).encode(),
        "lines.json": "\n".join(json.dumps({"instruction": f"a{n}", "output": n}) for n in range(4)).encode(),
        "texts.jsonl": "\n".join(json.dumps({**row, "messages": json.dumps(row["messages"])}) for row in rich).encode(),
        "own.csv": table.getvalue().encode(),
        "semicolons.csv": table.getvalue().replace(",", ";").encode(),
        "own.tsv": table.getvalue().replace(",", "\t").encode(),
        "alpaca.parquet": parquet.getvalue(),
        "turns.parquet": nested.getvalue(),
        "alpaca.jsonl.gz": gzip.compress(lines),
        "alpaca.jsonl.zst": bytes(pa.Codec("zstd").compress(lines, asbytes=True)),
        "alpaca.parquet.gz": gzip.compress(parquet.getvalue()),
    }


def read(path: Path) -> object:
    """All ways to read a file; which one fails doesn't matter."""
    if path.stat().st_size % 5 == 0:
        return read_rows(f"{path}#2")
    if path.stat().st_size % 5 == 1:
        derive = {"asked": {"yes": ["翻"], "no": ["."]}}
        return load_dataset(train=path, test=None, folder=None, train_rows=1, test_rows=None, derive=derive)
    if path.stat().st_size % 5 == 2:
        return survey(path)
    if path.stat().st_size % 5 == 3:
        return read_rows(path, columns={"instruction": "output", "output": "instruction"})
    rows = read_rows(path, need_output=False)
    assert rows
    for row in rows:
        assert row.instruction
        assert row.id
        json.dumps([row.id, row.instruction, row.output, row.columns], ensure_ascii=False).encode()
    return rows


def test_broken_files(tmp_path: Path) -> None:
    outcomes = fuzz(seeds(), read, tmp_path, times=600)
    assert outcomes["read"] > 30
    assert len(outcomes) > 15


@pytest.mark.slow
def test_broken_files_for_long(tmp_path: Path) -> None:
    assert fuzz(seeds(), read, tmp_path, lasting=seconds())["read"]
