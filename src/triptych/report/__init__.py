"""Statistics, tables, figures and the report of a run. Built from its records alone; torch is never imported."""

from triptych.report.build import build_report, build_so_far, write_curve
from triptych.report.comparison_pairs import comparisons, text_comparisons
from triptych.report.groups import group_cells
from triptych.report.runs import compare_runs, read_runs, write_comparison
from triptych.report.seeds import summarise_few_shot
from triptych.report.slices import slices
from triptych.report.statistics import compare, holm, interval, is_significant
from triptych.report.study import Study
from triptych.report.tables.cells import cells_table, few_shot_table
from triptych.report.tables.overview import settings_table, study_table
from triptych.report.tables.table import Table, to_csv, to_latex, to_markdown
from triptych.report.text.answer import answer
from triptych.report.text.terminal import print_table, print_tables
from triptych.report.text.warnings import dominated, row_warnings

__all__ = [
    "Study",
    "Table",
    "answer",
    "build_report",
    "build_so_far",
    "cells_table",
    "compare",
    "compare_runs",
    "comparisons",
    "dominated",
    "few_shot_table",
    "group_cells",
    "holm",
    "interval",
    "is_significant",
    "print_table",
    "print_tables",
    "read_runs",
    "row_warnings",
    "settings_table",
    "slices",
    "study_table",
    "summarise_few_shot",
    "text_comparisons",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_comparison",
    "write_curve",
]
