"""The run's tables on a terminal, readable from 80 columns on.

Fewer columns than in the report: what doesn't fit a line is in report.html, and no name is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych.records import Comparison, RunRecord
from triptych.report.groups import REPORTED, capital, repeat_of
from triptych.report.measures import measured
from triptych.report.numbers import Probability
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.tables.cells import INTERVAL, baselines_note, score_columns
from triptych.report.tables.generations import generations_table
from triptych.report.tables.overview import levels, study_columns
from triptych.report.tables.table import AVERAGES, Table, estimate, numeric_columns, write_value
from triptych.report.text.summaries import plain_name
from triptych.report.versions import mixed_versions
from triptych.terminal import shown

if TYPE_CHECKING:
    from rich.console import Console

MOST_METRICS = 3
"""Columns beside perplexity and bits per character; report.html has all."""
SHORT = {"ppl_mean": "mean", "ppl_corpus": "corpus", "ppl_geometric": "geom.", "bits_per_char": "bits/char"}


def print_tables(record: RunRecord, console: Console) -> None:
    """The study's table, the paired differences, the scores of texts where any were written, and every cell."""
    for warning in mixed_versions(record):
        console.print(shown(f"warning: {warning}"), markup=False, highlight=False, soft_wrap=True)
    study = Study(record)
    short = {label: plain_name(name) for label, name in study.names.items()}
    cells = {cell: plain_name(name) for cell, name in study.cell_names.items()}
    differences = _differences(f"Paired differences of {study.metric.label}", study.comparisons, short)
    for table in (_study(study, short), differences, *_written(record, cells), _cells(study, short)):
        if table.rows:
            print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    """One table with its note."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(shown(table.title)), title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    drawn.title_justify = "left"
    numbers = numeric_columns(table)
    for index, name in enumerate(table.columns):
        side = index in numbers
        # names may take two lines where the terminal is narrow; numbers stay whole
        drawn.add_column(Text(shown(name)), justify="right" if side else "left", no_wrap=side, overflow="fold")
    for row in table.rows:
        # Text, so that brackets in names and intervals are not read as rich's markup
        drawn.add_row(*(Text(shown(write_value(value))) for value in row))
    console.print(drawn)
    if table.note:
        console.print(Text(shown(f"  {table.note}")), style="dim", highlight=False)
        console.print()


def _study(study: Study, short: dict[str, str]) -> Table:
    best = [setting.label for setting in study.best.values()]
    ordered = [setting for strategy in REPORTED for setting in study.of(strategy)]
    columns = tuple(column for column in study_columns(study) if column != INTERVAL)
    columns = (*columns[:MOST_METRICS], *(name for name in AVERAGES if name in columns[MOST_METRICS:]))
    rows = tuple(
        (
            *(short[s.label], *levels(s, columns, study), s.over().n),
            "best of its kind" if s.label in best and len(best) > 1 else "",
        )
        for s in ordered
    )
    better = "higher" if study.metric.higher_is_better else "lower"
    note = " ".join(
        [f"{capital(study.metric.label)} of {study.n_rows} rows, {better} is better.", *baselines_note(study)]
    )
    if any(len(s.cells) > 1 for s in ordered):
        trained = any(s.repeated == "trainings" for s in ordered)
        note += f" ±: standard deviation over seeds{' (QLoRA: of the training)' * trained}."
    names = tuple("bits/char" if column == "bits_per_char" else column for column in columns)
    return Table("The study", ("setting", *names, "seeds", ""), rows, note)


def _differences(title: str, comparisons: Sequence[Comparison], short: dict[str, str]) -> Table:
    rows = tuple(
        (f"{short.get(c.a, c.a)} {_sign(c)} {short.get(c.b, c.b)}", estimate(c), Probability(c.p_holm))
        for c in comparisons
    )
    note = "First minus second, paired by row, 95 % interval, Holm-corrected p. < lower, > higher, ~ not beyond chance."
    return Table(title, ("comparison", "difference", "p"), rows, note)


def _sign(c: Comparison) -> str:
    return ("<" if c.difference < 0 else ">") if is_significant(c) else "~"


def _written(record: RunRecord, short: dict[str, str]) -> list[Table]:
    if not record.generations:
        return []
    full = generations_table(record.generations, short)
    columns = ("cell", "chrF++", "BLEU", "row chrF++", "95 % interval", "found in the texts")
    places = [full.columns.index(name) for name in columns]
    rows = tuple(tuple(row[place] for place in places) for row in full.rows)
    note = "0 to 100, higher is better; the interval is of the mean of the rows' own chrF++."
    title = "Paired differences of row chrF++ (higher is better)"
    return [Table(full.title, columns, rows, note), _differences(title, record.text_comparisons, short)]


def _cells(study: Study, short: dict[str, str]) -> Table:
    names = {c.cell: " ".join([short[s.label], *repeat_of(c)]) for s in study.settings for c in s.cells}
    metrics = tuple(name for name in score_columns(study) if name not in (*AVERAGES, INTERVAL))[:MOST_METRICS]
    beside = ("ppl_mean", "bits_per_char") if metrics else AVERAGES
    rows = tuple(
        (
            names[cell.cell],
            *(measured(cell.aggregate, name) for name in (*metrics, *beside)),
            cell.seconds,
        )
        for cell in study.cells
    )
    columns = ("cell", *metrics, *(SHORT[name] for name in beside), "sec")
    note = "Perplexity by three averages; bits per character; seconds of scoring."
    if metrics:
        columns = tuple("ppl_mean" if name == "mean" else name for name in columns)
        note = "Mean perplexity; bits per character; seconds of scoring."
    return Table("Every cell", columns, rows, note)
