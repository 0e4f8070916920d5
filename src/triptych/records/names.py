"""A name as a file's name, so that two names never share a file.

Letters, digits and `=-_.` stay, `/` becomes `__`. Where another name could give the same file name, 12 characters of
the SHA-256 follow behind a `~`, which no other file name has: for names with other characters, with `__` or `_` beside
`/`, with capitals (some file systems ignore case), not in Unicode's NFC, ending in a dot, or longer than file systems
take. The file itself names its cell, or what it was made from.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

_MOST_BYTES = 120
"""Of a name, before what is put behind it (`.record.json`, a temporary file's number)."""


def file_name(name: str) -> str:
    """The name's file name, without its ending: it can't leave the folder."""
    plain = _plain(name)
    if _is_alone(name) and plain == plain.casefold() and len(plain.encode()) <= _MOST_BYTES:
        return plain
    start = plain.encode()[: _MOST_BYTES - 13].decode(errors="ignore")
    return f"{start}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def stored(folder: Path, name: str, ending: str = "") -> Path:
    """Where a name's file is, or will be written.

    Earlier versions left capitals and long names as they are. A file that one of them wrote is still found, where its
    name, read from the folder letter by letter, can be no other's.
    """
    path, before = folder / f"{file_name(name)}{ending}", f"{_plain(name)}{ending}"
    if before == path.name or not _is_alone(name) or path.exists() or not folder.is_dir():
        return path
    return folder / before if any(entry.name == before for entry in folder.iterdir()) else path


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "=-_." else "__" for c in name)


def _is_alone(name: str) -> bool:
    """Whether no other name becomes the same text, letter by letter."""
    plain = all(c.isalnum() or c in "=-_./" for c in name) and name == unicodedata.normalize("NFC", name)
    return plain and not re.search(r"__|_/|/_|^/|/$|\.$|^\.", name)
