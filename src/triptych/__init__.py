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
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.api import Predictions, Run, Scores, load_run, predict, run, score, tune

__version__ = "0.1.0"

__all__ = ["Predictions", "Run", "Scores", "__version__", "load_run", "predict", "run", "score", "tune"]


class _Tune(ModuleType):
    """`triptych.tune`, the package that trains, which is also `triptych.tune(...)`, the call."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """See `triptych.api.tune`."""
        return importlib.import_module("triptych.api").tune(*args, **settings)


class _Triptych(ModuleType):
    """This package. Python binds `triptych.tune` to the subpackage whenever that is imported: it must stay callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Bind a name; the subpackage `tune` becomes callable."""
        if name == "tune" and isinstance(value, ModuleType):
            value.__class__ = _Tune
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Import what is asked for."""
        if name == "tune":
            return importlib.import_module("triptych.tune")
        if name in __all__:
            return getattr(importlib.import_module("triptych.api"), name)
        raise AttributeError(f"module 'triptych' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        """What there is, imported or not."""
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Triptych
