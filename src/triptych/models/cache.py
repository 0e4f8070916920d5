"""Where Triptych keeps what it makes once: unpacked GGUF models and hashes of large files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from triptych.records.store import write_json

__all__ = ["cache_folder", "sha256_of_weights"]

_BLOCK = 1 << 24


def cache_folder() -> Path:
    """`$TRIPTYCH_CACHE`, else `$XDG_CACHE_HOME/triptych`, else `~/.cache/triptych`."""
    if chosen := os.environ.get("TRIPTYCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych"


def sha256_of_weights(files: list[Path]) -> str:
    """One SHA-256 over the contents of weight files, in name order.

    Hashing 14 GB takes a while, so each file's digest is remembered under its path, size and modification time.
    """
    remembered_at = cache_folder() / "file-hashes.json"
    try:
        remembered: dict[str, str] = json.loads(remembered_at.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a cache that can't be read is a cache that is empty
        remembered = {}
    total = hashlib.sha256()
    fresh = False
    for file in sorted(files, key=lambda path: path.name):
        real = file.resolve()
        state = real.stat()
        key = f"{real}:{state.st_size}:{state.st_mtime_ns}"
        if key not in remembered:
            remembered[key] = _digest(real)
            fresh = True
        total.update(f"{file.name}:{remembered[key]}\n".encode())
    if fresh:
        write_json(remembered_at, remembered)
    return total.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
