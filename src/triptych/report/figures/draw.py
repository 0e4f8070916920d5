"""Draws the figures of a report and saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.records.manifest import remove
from triptych.report.figures.charts import calibration, comparison, crossover, differences, learning_curve, ppl_by_k
from triptych.report.figures.fonts import families
from triptych.report.figures.rows import distribution, scatter
from triptych.report.figures.style import save, style
from triptych.report.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Callable[[Study], Figure | None]] = {
    **{"learning_curve": learning_curve, "ppl_by_k": ppl_by_k, "comparison": comparison, "differences": differences},
    **{"scatter": scatter, "distribution": distribution, "calibration": calibration, "crossover": crossover},
}
"""Each returns a figure, or None where there is nothing to show."""


def draw_figures(study: Study, folder: Path) -> tuple[list[str], list[str]]:
    """Draw the figures that this run has as PNG and SVG, and remove others of an earlier report.

    Returns:
        The names of what was drawn, and a warning where no font here has the characters of a name.
    """
    drawn = []
    fonts, missing = families([*study.names.values(), *study.record.further_curves, *study.by_label])
    for name, make in FIGURES.items():
        with style(fonts):
            if figure := make(study):
                save(figure, folder, name)
                drawn.append(name)
            else:
                for kind in ("png", "svg"):
                    remove(folder / f"{name}.{kind}")
    without = f"No font on this machine has {''.join(sorted(missing))}: the files in figures/ show boxes instead."
    return drawn, [without] if missing and drawn else []
