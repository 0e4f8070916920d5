"""Tensors in one safetensors file, made to be mapped: processes that map it share one copy in the system's page cache.

Every tensor begins at a multiple of 64 bytes, as tensors that torch allocates do: matrix products may choose another
kernel, and round another way, for other addresses. The format allows no gaps, so what lies between is a tensor too,
of bytes that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
_DTYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"},
    torch.bool: "BOOL",
}
_BY_NAME = {name: dtype for dtype, name in _DTYPES.items()}
_GAP = ".gap "
"""Beginning of the names of the tensors between: no parameter's name begins with a dot."""


def why_not_writable(tensors: Mapping[str, Tensor]) -> str | None:
    """Why these tensors would not come back as they are; None if they would."""
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
            return f"{name} is {tensor.dtype} on {tensor.device}"
        if not tensor.is_contiguous():
            return f"{name} is not contiguous"
    return None


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """About the size of their file."""
    return sum(tensor.nbytes + ALIGNMENT for tensor in tensors.values())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a file anew, one tensor after the other, without a copy of them in memory; returns its SHA-256.

    Raises:
        OSError: it can't be written.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        if gap := -end % ALIGNMENT:
            header[f"{_GAP}{name}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
            end += gap
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(text, tensors):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _pieces(header: bytes, tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    yield len(header).to_bytes(8, "little")
    yield header
    for tensor in tensors.values():
        if tensor.numel():
            yield tensor.detach().reshape(-1).view(torch.uint8).numpy().data
        yield bytes(-tensor.nbytes % ALIGNMENT)


def map_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of `write_tensors`, backed by the file: read when they are used, copied when written to.

    Each has a storage of its own, so that copying one copies no other.

    Raises:
        OSError: the file can't be opened or mapped.
        ValueError: it is no such file, or a torn one.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= size - 8:
            raise ValueError("the file is torn: its header is longer than the file")
        header = json.loads(file.read(length))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if not isinstance(header, dict):
        raise ValueError("the file's header names no tensors")
    try:
        if size != 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0):
            raise ValueError("the file is torn: it doesn't have the size that its header says")
        return {name: _tensor(mapped, 8 + length, entry) for name, entry in header.items() if not name.startswith(_GAP)}
    except (LookupError, TypeError, RuntimeError) as error:
        raise ValueError(f"the file's header can't be read: {error}") from error


def _tensor(mapped: mmap.mmap, data: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape, (start, end) = _BY_NAME[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if start == end:
        return torch.empty(shape, dtype=dtype)
    count = (end - start) // dtype.itemsize
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=data + start).reshape(shape)
