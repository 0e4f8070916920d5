"""Which suffix is parsed by what. The parsers judge the format alone; `triptych.data.validate` judges the rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from triptych.data.json_files import parse_json, parse_jsonl
from triptych.data.raw import RawTable
from triptych.data.table_files import parse_csv, parse_parquet

__all__ = ["PARSERS", "Parser"]

Parser = Callable[[bytes, str], RawTable]
"""(the file's bytes, the name to use for it in errors) -> its raw rows."""

PARSERS: dict[str, Parser] = {
    ".json": parse_json,
    ".jsonl": parse_jsonl,
    ".ndjson": parse_jsonl,
    ".csv": partial(parse_csv, delimiter=","),
    ".tsv": partial(parse_csv, delimiter="\t"),
    ".parquet": parse_parquet,
}
"""What reads which suffix."""
