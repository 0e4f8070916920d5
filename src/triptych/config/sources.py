"""How a source of rows is written in the settings: a path, `path#500` for a sample of it, a hub id, bundled data."""

from __future__ import annotations

import re
from pathlib import Path

from triptych.records.disk import is_there

SAMPLES = ("sample", "sample-intents")
"""Names that stand for bundled data wherever a data folder is asked for: modern and literary Chinese, the first one
where no data is named; English messages with their intents."""
_ASKED = re.compile(r"(?P<path>.+)#(?P<n>\d+)", re.DOTALL)


def split_sample(source: str | Path) -> tuple[str | Path, int | None]:
    """Divide "path#500" into the path and 500; a file that is named so is itself, whole."""
    asked = _ASKED.fullmatch(str(source))
    if asked is None or is_there(source) or len(asked["n"]) > 18:
        return source, None
    path = asked["path"]
    return (Path(path) if isinstance(source, Path) else path), int(asked["n"])
