"""The figures of a report, drawn by matplotlib as PNG and SVG."""

from triptych.report.figures.draw import draw_figures
from triptych.report.figures.fonts import families

__all__ = ["draw_figures", "families"]
