"""`triptych run`: the experiment."""

from __future__ import annotations

from typing import Annotated

import typer

from triptych.api import calls
from triptych.cli import options
from triptych.errors import TriptychError
from triptych.terminal import new_console


def run(
    config: options.Config,
    sets: options.Sets = None,
    out: options.RunFolder = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what an earlier run left there.")] = False,
    on: Annotated[str | None, typer.Option(metavar="EXECUTOR", help=options.help_of(calls.run, "on"))] = None,
    within: Annotated[str | None, typer.Option(metavar="TIME", help=options.help_of(calls.run, "within"))] = None,
) -> None:
    """Run an experiment; the same command continues one that was interrupted."""
    from triptych.config.read import read_config
    from triptych.console import ConsoleReporter
    from triptych.report import print_tables

    console = new_console()
    done = calls.run(
        read_config(config, sets or []), out=out, fresh=fresh, on=on, within=within, reporter=ConsoleReporter(console)
    )
    print_tables(done.record, console)
    for sentence in done.answer:
        console.print(sentence)
    console.print(f"\nreport: {done.path / 'report.html'}", soft_wrap=True)
    failed = {name: why for written in done.record.generations for name, why in written.metric_errors.items()}
    if failed:
        raise TriptychError(
            "; ".join(failed.values()) + ".\n  All else is in the report; the same command tries them again"
        )
