"""`triptych report`: rebuild reports from their records, and compare runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triptych.terminal import new_console


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folder of a run.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the comparison of several runs goes.  [default: `comparison` beside them]"),
    ] = None,
    without_texts: Annotated[
        bool, typer.Option("--without-texts", help="Leave the rows' texts out of report.html, to publish the numbers.")
    ] = False,
) -> None:
    """Rebuild tables, figures, report.html and report.md of runs, and compare several; needs no model."""
    from triptych.report import build_report, compare_runs, print_table, print_tables, read_runs, write_comparison

    console = new_console()
    several = len(run_dirs) > 1
    runs = read_runs(run_dirs) if several else []
    for folder in run_dirs:
        record = build_report(folder, texts=not without_texts)
        if not several:
            print_tables(record, console)
        _name(console, folder / "report.html")
    if several:
        compared = compare_runs(runs)
        for table in compared.tables.values():
            print_table(table, console)
        for sentence in compared.refused:
            console.print(sentence)
        _name(console, write_comparison(compared, out or _beside(run_dirs)), what="comparison")


def _beside(run_dirs: list[Path]) -> Path:
    parents = [str(folder.resolve().parent) for folder in run_dirs]
    return Path(os.path.relpath(Path(os.path.commonpath(parents)) / "comparison"))


def _name(console: Console, path: Path, what: str = "report") -> None:
    console.print(f"{what}: {path}", soft_wrap=True)
