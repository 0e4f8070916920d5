"""Texts that people write by hand, read up to a limit: a file of a gigabyte given by mistake is named at once."""

from __future__ import annotations

from pathlib import Path

LARGEST = 250_000
"""Bytes of a configuration or a template. A megabyte of YAML can take its parser ten seconds."""


class TooLargeError(ValueError):
    """A file is larger than any of its kind."""


def read_small(path: Path, *, encoding: str = "utf-8") -> str:
    """The file's text; of a pipe or a device, too, no more than the limit is read.

    Raises:
        TooLargeError: it is longer.
        OSError: it can't be read.
        UnicodeDecodeError: it is no text.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        size = path.stat().st_size
        raise TooLargeError(f"{max(size, len(content)):,} bytes or more, and at most {LARGEST:,} are read")
    return content.decode(encoding)
