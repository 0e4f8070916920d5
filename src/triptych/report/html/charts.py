"""The charts that scripts draw in report.html, by their names for them."""

from __future__ import annotations

from triptych.report.calibration import calibration_chart
from triptych.report.crossover_shown import crossover_chart
from triptych.report.curves import curve_chart, loss_chart
from triptych.report.groups import capital
from triptych.report.series import by_k_chart, differences_chart
from triptych.report.study import Study

CHARTS = {
    **{"curve": curve_chart, "loss": loss_chart, "byK": by_k_chart, "forest": differences_chart},
    **{"crossover": crossover_chart, "calibration": calibration_chart},
}


def captions(study: Study) -> dict[str, tuple[str, str]]:
    """Title and caption of each of them."""
    curve = curve_chart(study)
    of_curve = _titled(curve.y.removesuffix(" of the rows")) if curve else ""
    side = "Right" if study.metric.higher_is_better else "Left"
    return {
        "curve": (
            "Learning curve",
            f"{of_curve} of the test rows during QLoRA training. Bands hold 95 % intervals over rows; dashed: what the "
            "base model reaches without training.",
        ),
        "crossover": (
            f"{_titled(study.metric.label)} by number of labelled rows",
            "With 95 % intervals that hold the chance of the test rows and of which rows were labelled.",
        ),
        "loss": ("Training loss", "Since the point before, on the tokens that are trained."),
        "byK": (f"{_titled(study.metric.label)} by number of demonstrations", "A small point is one seed."),
        "forest": (
            "Paired differences",
            f"Paired by row, with 95 % intervals over rows. {side} of 0 the first is better; open: can't be told from "
            "zero.",
        ),
        "calibration": (
            "Calibration",
            "Whether answers of a probability are right as often as it says, for the best cell of each strategy; below "
            "the diagonal the model is too sure. Larger points hold more rows.",
        ),
    }


def _titled(label: str) -> str:
    return capital(label.removeprefix("mean "))
