"""How figures look and how they are saved. matplotlib is loaded only when a figure is drawn."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.records.schema import Strategy
from triptych.records.store import write_bytes
from triptych.report.figures.fonts import BASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: dict[Strategy, str] = {"qlora": "#0072B2", "few_shot": "#D55E00", "zero_shot": "#009E73"}
"""From the palette of Okabe and Ito (2008), distinct with any colour vision; markers differ as well."""
MARKERS: dict[Strategy, str] = {"qlora": "o", "few_shot": "s", "zero_shot": "D"}
INK, GREY = "#222222", "#767676"


@contextmanager
def style(families: Sequence[str] = (BASE,)) -> Iterator[None]:
    """The look of every figure, leaving the caller's matplotlib settings as they were."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "font.family": list(families),
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        # a `$` in a prompt's name is a dollar sign
        "text.parse_math": False,
        # the same figure is the same file: SVG ids come from this salt, not from chance
        "svg.hashsalt": "triptych",
    }
    # a Chinese font of one weight also stands in for the others: no reader of a report needs the warning
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(settings):
            yield
    finally:
        logger.setLevel(level)


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and to no global state, so that it can be drawn in any thread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("constrained", wspace=0.06)
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, axes: Axes, *, columns: int) -> None:
    """The legend under the axes, where it can't hide a line."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=8.5, handlelength=3)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name.png` (200 dpi) and `name.svg`, each whole or not at all and the same bytes for the same figure."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        content = BytesIO()
        with warnings.catch_warnings():
            # names so long that they leave no room: the figure is drawn as well as it can be
            warnings.filterwarnings("ignore", message="constrained_layout not applied")
            # `draw_figures` says so
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(content, format=kind, dpi=200, facecolor="white", metadata=metadata)
        write_bytes(folder / f"{name}.{kind}", content.getvalue())


def perplexity_scale(axes: Axes, values: Sequence[float], *, axis: str = "y", always: bool = False) -> None:
    """Logarithmic where the values span more than a factor of 10, or `always`, with plain numbers on the ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    factor = max(values) / min(values)
    if factor <= 10 and not always:
        return
    (axes.set_yscale if axis == "y" else axes.set_xscale)("log")
    scaled = axes.yaxis if axis == "y" else axes.xaxis
    if factor <= 10:  # too narrow for 1, 2, 5: it might hold none of them
        scaled.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        scaled.set_minor_locator(NullLocator())
    else:
        scaled.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if factor <= 1000 else (1,)))
    scaled.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    scaled.set_minor_formatter(NullFormatter())
