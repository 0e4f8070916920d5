"""Statistics, tables, figures and the report of a run. Built from its records alone; torch is never imported."""

from triptych.report.answer import answer, dominated, row_warnings
from triptych.report.build import build_report, write_curve
from triptych.report.contenders import Setting, best_of_each, comparisons, settings
from triptych.report.rendering import print_tables, to_csv, to_markdown
from triptych.report.statistics import compare, holm, interval, summarise_few_shot, told_apart
from triptych.report.tables import (
    Table,
    cells_table,
    comparisons_table,
    curve_table,
    few_shot_table,
    settings_table,
    study_table,
    zero_shot_table,
)

__all__ = [
    "Setting",
    "Table",
    "answer",
    "best_of_each",
    "build_report",
    "cells_table",
    "compare",
    "comparisons",
    "comparisons_table",
    "curve_table",
    "dominated",
    "few_shot_table",
    "holm",
    "interval",
    "print_tables",
    "row_warnings",
    "settings",
    "settings_table",
    "study_table",
    "summarise_few_shot",
    "to_csv",
    "to_markdown",
    "told_apart",
    "write_curve",
    "zero_shot_table",
]
