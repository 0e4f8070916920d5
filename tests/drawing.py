"""Figures in tests: drawing is most of a tiny run's time, so only the tests that look at figures have them drawn.

Everywhere else a report's figures are made, axes and all, and a small file stands where the picture would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def sketched() -> Iterator[None]:
    """Inside, a report's figures are not drawn: their files hold a line of text."""
    from triptych.records.store import write_bytes
    from triptych.report.figures import draw

    def sketch(_: Any, folder: Path, name: str) -> None:
        for kind in ("png", "svg"):
            write_bytes(folder / f"{name}.{kind}", b"a sketch: see tests/drawing.py")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "save", sketch)
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Inside, a report's figures are drawn as for a user."""
    from triptych.report.figures import draw, style

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "save", style.save)
        yield
