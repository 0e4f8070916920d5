"""`triptych report`: rebuild a report from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["report"]


def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
) -> None:
    """Rebuild tables, figures and report.md of a run; needs no model."""
    from triptych.report import build_report, print_tables

    console = Console()
    record = build_report(run_dir)
    print_tables(record, console)
    console.print(f"report: {run_dir / 'report.md'}", highlight=False, markup=False, soft_wrap=True)
