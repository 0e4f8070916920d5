"""How long a run may take: `--within 10m`."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 30 * 24 * 3600.0


def seconds_of(text: str) -> float:
    """Seconds of `90s`, `10m`, `1.5h` or a plain number of seconds.

    Raises:
        ValueError: it is none of these, or not between a second and 30 days.
    """
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h|)\s*", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= seconds <= _LONGEST:
        raise ValueError("a time such as 90s, 10m or 1.5h, at least a second and at most 30 days")
    return seconds
