"""Triptych: is a better prompt enough, do in-context examples do it, or should I fine-tune?

```python
import triptych

run = triptych.run("experiment.yaml")    # what `triptych run` does
run.cells, run.items, run.curve          # pandas DataFrames
triptych.load_run("runs/demo").report()  # where report.html lies
```

Importing this package loads nothing heavy: torch and pandas are imported by the calls that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from triptych.version import __version__

if TYPE_CHECKING:
    from triptych.api import Predictions, Run, Scores, load_run, predict, run, score, tune

__all__ = ["Predictions", "Run", "Scores", "__version__", "load_run", "predict", "run", "score", "tune"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in __all__:
        return getattr(importlib.import_module("triptych.api"), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, imported or not."""
    return sorted({*globals(), *__all__})
