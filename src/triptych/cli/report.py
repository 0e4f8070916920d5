"""`triptych report`: rebuild reports from their records, and compare runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triptych.terminal import new_console, write_text


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folder of a run.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the comparison of several runs goes, or the rows of --wrong.  "
            "[default: `comparison` beside them; standard output]"
        ),
    ] = None,
    without_texts: Annotated[
        bool, typer.Option("--without-texts", help="Leave the rows' texts out of report.html, to publish the numbers.")
    ] = False,
    wrong: Annotated[
        str | None,
        typer.Option(
            metavar="CELL",
            help="Write the rows that this cell gets wrong (CSV; JSON if --out ends in .json), no report.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --wrong: replace a file of yours.")] = False,
) -> None:
    """Rebuild tables, figures, report.html and report.md of runs, and compare several; needs no model."""
    if wrong is not None:
        _wrong(run_dirs, wrong, out, force=force)
        return
    from triptych.report import (
        Study,
        build_report,
        compare_runs,
        print_table,
        print_tables,
        read_runs,
        write_comparison,
    )
    from triptych.report.text.disagreement import disagreements

    console = new_console()
    several = len(run_dirs) > 1
    runs = read_runs(run_dirs) if several else []
    for folder in run_dirs:
        record = build_report(folder, texts=not without_texts)
        if not several:
            for sentence in disagreements(Study(record)):
                console.print(sentence)
            print_tables(record, console)
        _name(console, folder / "report.html")
    if several:
        compared = compare_runs(runs)
        for table in compared.tables.values():
            print_table(table, console)
        for sentence in compared.refused:
            console.print(sentence)
        _name(console, write_comparison(compared, out or _beside(run_dirs)), what="comparison")


def _wrong(run_dirs: list[Path], cell: str, out: Path | None, *, force: bool) -> None:
    from triptych.errors import ConfigError
    from triptych.report.wrong import export_wrong

    if len(run_dirs) > 1:
        raise ConfigError("--wrong takes one run", where="--wrong", found=f"{len(run_dirs)} runs", fix="name one")
    text, count = export_wrong(run_dirs[0], cell, out, force=force)
    if out is None:
        write_text(text.removesuffix("\n"))
    else:
        new_console().print(f"wrong: {count:,} rows in {out}", soft_wrap=True)


def _beside(run_dirs: list[Path]) -> Path:
    parents = [str(folder.resolve().parent) for folder in run_dirs]
    return Path(os.path.relpath(Path(os.path.commonpath(parents)) / "comparison"))


def _name(console: Console, path: Path, what: str = "report") -> None:
    console.print(f"{what}: {path}", soft_wrap=True)
