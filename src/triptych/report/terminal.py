"""The run's tables on a terminal, readable from 80 columns on.

Fewer columns than in the report: what doesn't fit a line is in report.html, and no name is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych.records import CellRecord, Comparison, RunRecord
from triptych.report.contenders import STRATEGY_NAMES, Setting, best_of_each, names, settings
from triptych.report.numbers import Estimate, Probability
from triptych.report.rendering import numeric_columns, write_value
from triptych.report.seeds import selection
from triptych.report.statistics import told_apart
from triptych.report.tables import Table, Value
from triptych.report.versions import mixed_versions
from triptych.report.written import cell_names, generations_table, plain_name
from triptych.terminal import shown

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_table", "print_tables"]


def print_tables(record: RunRecord, console: Console) -> None:
    """The study's table, the paired differences, the scores of texts where any were written, and every cell."""
    for warning in mixed_versions(record):
        console.print(shown(f"warning: {warning}"), markup=False, highlight=False, soft_wrap=True)
    short = {label: plain_name(name) for label, name in names(settings(record.cells)).items()}
    tables = [_study(record, short)]
    if record.comparisons:
        tables.append(_differences(record.comparisons, short))
    if record.generations:
        tables += _written(record)
    tables.append(_cells(record))
    for table in tables:
        if table.rows:
            print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    """One table with its note."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(shown(table.title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
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


def _study(record: RunRecord, short: dict[str, str]) -> Table:
    best = set(best_of_each(record.cells).values())
    ordered = sorted(settings(record.cells), key=lambda s: ("qlora", "zero_shot", "few_shot").index(s.strategy))
    rows = tuple(
        (short[s.label], *_means(s), s.over().n, "best of its kind" if s in best and len(best) > 1 else "")
        for s in ordered
    )
    counts = " or ".join(f"{n:,}" for n in sorted({cell.aggregate.n_rows for cell in record.cells}))
    note = f"Mean perplexity of {counts} rows, lower is better."
    if any(len(s.cells) > 1 for s in ordered):
        trained = any(s.repeated == "trainings" for s in ordered)
        note += f" ±: standard deviation over seeds{' (QLoRA: of the training)' * trained}."
    return Table("The study", ("setting", "ppl_mean", "bits/char", "seeds", ""), rows, note)


def _means(setting: Setting) -> tuple[Value, ...]:
    return tuple(
        over if over is None or over.n > 1 else over.mean for over in (setting.over(), setting.bits_per_char())
    )


def _differences(comparisons: Sequence[Comparison], short: dict[str, str]) -> Table:
    rows = tuple(
        (
            f"{short.get(c.a, c.a)} {_sign(c)} {short.get(c.b, c.b)}",
            Estimate(c.difference, c.ci_low, c.ci_high),
            Probability(c.p_holm),
        )
        for c in comparisons
    )
    note = (
        "First minus second, paired by row, 95 % interval, Holm-corrected p. < lower, > higher, ~ can't be told apart."
    )
    return Table("Paired differences of mean perplexity", ("comparison", "difference", "p"), rows, note)


def _sign(c: Comparison) -> str:
    return ("<" if c.difference < 0 else ">") if told_apart(c) else "~"


def _written(record: RunRecord) -> list[Table]:
    short = {cell: plain_name(name) for cell, name in cell_names(record.cells).items()}
    full = generations_table(record.generations, short)
    wanted = ("cell", "chrF++", "BLEU", "row chrF++", "95 % interval", "found in the texts")
    places = [full.columns.index(name) for name in wanted]
    rows = tuple(tuple(row[place] for place in places) for row in full.rows)
    note = "0 to 100, higher is better; the interval is of the mean of the rows' own chrF++."
    tables = [Table(full.title, wanted, rows, note)]
    if record.text_comparisons:
        less = _differences(record.text_comparisons, short)
        tables.append(Table("Paired differences of row chrF++ (higher is better)", less.columns, less.rows, less.note))
    return tables


def _cells(record: RunRecord) -> Table:
    rows = tuple(
        (
            " ".join([STRATEGY_NAMES[cell.strategy], cell.prompt, *_shown(cell)]),
            cell.seed if cell.train_seed is None or cell.seed is not None else f"t{cell.train_seed}",
            *(getattr(cell.aggregate, name) for name in ("ppl_mean", "ppl_corpus", "ppl_geometric", "bits_per_char")),
            cell.seconds,
        )
        for cell in record.cells
    )
    columns = ("cell", "seed", "mean", "corpus", "geom.", "bits/char", "sec")
    note = "Perplexity by three averages; bits per character; seconds of scoring."
    if any(cell.train_seed is not None for cell in record.cells):
        note += " Seed t0: of the training."
    return Table("Every cell", columns, rows, note)


def _shown(cell: CellRecord) -> list[str]:
    select = selection(cell)
    shown = [f"k={cell.k}", *([select] if select not in (None, "random") else []), cell.order, cell.draw]
    trained = [f"trained: {cell.trained_prompt}"] if cell.trained_prompt not in (None, cell.prompt) else []
    trained += [f"trained k={cell.trained_k}"] if cell.trained_k else []
    trained += [f"t{cell.train_seed}"] if cell.train_seed is not None and cell.seed is not None else []
    return [*([part for part in shown if part] if cell.k else []), *trained]
