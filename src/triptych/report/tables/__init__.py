"""The tables of a report, and how a table is written as markdown, CSV and LaTeX."""

from triptych.report.tables.cells import cells_table, few_shot_table, zero_shot_table
from triptych.report.tables.overview import comparisons_table, curve_table, flat, settings_table, study_table
from triptych.report.tables.rendering import numeric_columns, to_csv, to_latex, to_markdown, write_value
from triptych.report.tables.table import Table, Value

__all__ = [
    "Table",
    "Value",
    "cells_table",
    "comparisons_table",
    "curve_table",
    "few_shot_table",
    "flat",
    "numeric_columns",
    "settings_table",
    "study_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_value",
    "zero_shot_table",
]
