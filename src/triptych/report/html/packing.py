"""How `report.html` carries data: each piece is gzip in base64 in a script tag.

Base64 has no `<`, so no row's text can close the tag.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 250
"""Rows whose tokens are unpacked together."""
LOG_STEP = 5e-4
"""Steps of ln(ppl): perplexities keep three significant places and a half."""
NLL_STEP = 0.1
"""Steps of a token's NLL in nats: what is shown has one decimal."""
NLL_LEVELS = 251
FIRST = 0x23
"""Code point of NLL 0: `#`. One character a token, and none of them needs escaping but the backslash."""


def in_chunks(name: str, ids: Sequence[str], content: Callable[[Sequence[str]], Any]) -> dict[str, str]:
    """`NAME-0`, `NAME-1`, …: the content of `CHUNK` rows each, packed."""
    starts = range(0, len(ids), CHUNK)
    return {f"{name}-{n}": pack_json(content(ids[start : start + CHUNK])) for n, start in enumerate(starts)}


def pack(content: bytes) -> str:
    """Bytes as base64 of gzip; the same bytes always give the same text."""
    return base64.b64encode(gzip.compress(content, compresslevel=9, mtime=0)).decode("ascii")


def pack_json(value: Any) -> str:
    """JSON, packed."""
    return pack(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def pack_logs(columns: Iterable[Sequence[float]]) -> str:
    """Columns of ln(ppl), one after the other, as 16-bit integers in steps of `LOG_STEP`.

    Each column is stored as its difference to the one before: rows that are hard are hard everywhere, so the
    differences are small and compress well. High and low bytes are stored apart for the same reason.
    """
    exact = np.array([list(column) for column in columns], dtype=np.float64)
    if exact.size == 0:
        return pack(b"")
    codes = np.clip(np.rint(exact / LOG_STEP), 0, 65535).astype(np.int64)
    steps = np.diff(codes, axis=0, prepend=0) & 0xFFFF
    return pack((steps >> 8).astype(np.uint8).tobytes() + (steps & 0xFF).astype(np.uint8).tobytes())


def pack_values(columns: Iterable[Sequence[float]]) -> str:
    """Columns of values, one after the other, as 32-bit numbers; NaN where there is none."""
    return pack(np.array([list(column) for column in columns], dtype="<f4").tobytes())


def pack_nll(rows: Sequence[npt.ArrayLike]) -> list[str]:
    """The NLLs of rows' tokens as a string a row, one character a token, in steps of `NLL_STEP`."""
    if not len(rows):
        return []
    exact = np.concatenate([np.asarray(row, dtype=np.float64) for row in rows])
    codes = np.clip(np.floor(exact / NLL_STEP + 0.5), 0, NLL_LEVELS - 1).astype("<u4") + FIRST
    text, ends = codes.astype("<u4").tobytes().decode("utf-32-le"), np.cumsum([np.size(row) for row in rows]).tolist()
    return [text[begin:end] for begin, end in pairwise([0, *ends])]
