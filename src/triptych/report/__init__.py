"""Statistics, tables, figures and the report of a run. Built from its records alone; torch is never imported."""

from triptych.report.answer import answer, dominated, row_warnings
from triptych.report.build import build_report, write_curve
from triptych.report.contenders import Setting, best_of_each, settings
from triptych.report.questions import comparisons
from triptych.report.rendering import to_csv, to_latex, to_markdown
from triptych.report.runs import compare_runs, read_runs
from triptych.report.runs_files import write_comparison
from triptych.report.seeds import summarise_few_shot
from triptych.report.slices import slices
from triptych.report.statistics import compare, holm, interval, told_apart
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
from triptych.report.terminal import print_table, print_tables
from triptych.report.written import text_comparisons

__all__ = [
    "Setting",
    "Table",
    "answer",
    "best_of_each",
    "build_report",
    "cells_table",
    "compare",
    "compare_runs",
    "comparisons",
    "comparisons_table",
    "curve_table",
    "dominated",
    "few_shot_table",
    "holm",
    "interval",
    "print_table",
    "print_tables",
    "read_runs",
    "row_warnings",
    "settings",
    "settings_table",
    "slices",
    "study_table",
    "summarise_few_shot",
    "text_comparisons",
    "to_csv",
    "to_latex",
    "to_markdown",
    "told_apart",
    "write_comparison",
    "write_curve",
    "zero_shot_table",
]
