"""Where Triptych keeps what it makes once: unpacked GGUF models and hashes of large files."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from triptych.errors import DiskError, ModelError
from triptych.records.disk import sha256_of_file
from triptych.records.store import write_json

logger = logging.getLogger(__name__)
_SHA256 = re.compile("[0-9a-f]{64}")
_SAMPLED, _SAMPLE = 16, 1 << 16
_SETTLED = 2.0
"""Seconds: within a clock tick of a write, another write leaves the same times."""


def cache_folder() -> Path:
    """`$TRIPTYCH_CACHE`, else `$XDG_CACHE_HOME/triptych`, else `~/.cache/triptych`; without a home, a temporary folder.

    It may be missing or read-only: what can't be kept there is made again, and that is said once (`unkept`). What must
    lie somewhere to be used at all goes to `writable_cache`.
    """
    if chosen := os.environ.get("TRIPTYCH_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "triptych"
    try:
        return Path.home() / ".cache" / "triptych"
    except RuntimeError as error:  # no HOME, and no entry for the user
        unkept("what is made once", error)
        return _temporary()


def writable_cache() -> Path:
    """The cache's folder where it can be written to, else a temporary one that is removed when the process ends."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        unkept("what is made once", error)
        return _temporary()


@cache
def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="triptych-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def unkept(what: str, error: Exception) -> None:
    """Say, once for each kind of thing, that it is not kept in the cache, and will be made again."""
    if what not in _said:
        _said.add(what)
        logger.warning(
            "the cache can't be used: %s is not kept (%s); set TRIPTYCH_CACHE to another folder", what, error
        )


_said: set[str] = set()


def file_state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced: device, inode, size, and the times of content and of inode.

    `os.utime` can set the time of the content back; the time of the inode moves with every change, and nothing sets it.
    """
    state = path.stat()
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def sha256_of_weights(files: Mapping[str, Path], *, where: str) -> str:
    """One SHA-256 over the contents of weight files, in the order of their names.

    Args:
        files: name in the model's folder (`model-00001.safetensors`, `parts/a.safetensors`) -> where it lies.
        where: the model, for errors.

    Raises:
        ModelError: there are no files, or one is missing: nothing has no hash.
    """
    if not files:
        raise ModelError(
            "there are no weights to identify the model by",
            where=where,
            expected="model.safetensors, or model.safetensors.index.json and the files it names",
            fix="copy or download the model again",
        )
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name}:{sha256_of_large_file(path)}\n".encode())
    return total.hexdigest()


def sha256_of_large_file(path: Path) -> str:
    """SHA-256 of a file. Hashing 14 GB takes a while, so it is remembered for as long as the file is the same.

    The same is: the same `file_state`, and the same content at its beginning, its end and between, which is read each
    time. A file that was written a moment ago is not remembered, since a second write might leave the same times.

    Raises:
        ModelError: the file isn't there, or was written while it was read.
    """
    remembered_at = cache_folder() / "file-hashes.json"
    try:
        real = path.resolve(strict=True)
        before = file_state(real)
        key, sample = ":".join([str(real), *map(str, before)]), _sample(real, before[2])
        known = _read(remembered_at).get(key)
        if isinstance(known, dict) and known.get("sample") == sample and _SHA256.fullmatch(str(known.get("sha256"))):
            return str(known["sha256"])
        sha256 = sha256_of_file(real)
        after = file_state(real)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            "a file of the model's weights is missing",
            where=str(path),
            fix="copy or download the model again; all files that its index names are needed",
        ) from error
    if after != before:
        raise ModelError(
            "a file of the model was written while it was read",
            where=str(path),
            fix="run the same command again when nothing writes to the model's files",
        )
    if time.time() - max(before[3], before[4]) / 1e9 > _SETTLED:
        try:
            write_json(remembered_at, {**_read(remembered_at), key: {"sha256": sha256, "sample": sample}})
        except (DiskError, OSError) as error:
            unkept("hashes of model files", error.__cause__ if isinstance(error.__cause__, OSError) else error)
    return sha256


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a cache that can't be read is a cache that is empty
        return {}
    return value if isinstance(value, dict) else {}


def _sample(path: Path, size: int) -> str:
    """Hash of blocks spread evenly over a file, the first (a safetensors header's place) and the last included."""
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - _SAMPLE)
    with path.open("rb") as file:
        for at in sorted({last * part // (_SAMPLED - 1) for part in range(_SAMPLED)}):
            file.seek(at)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
