"""`triptych run`: the experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from triptych.terminal import new_console

__all__ = ["run"]


def run(
    config: Annotated[Path, typer.Argument(help="The experiment's YAML.", show_default=False)],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. tune.epochs=1.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what an earlier run left there.")] = False,
) -> None:
    """Run an experiment; the same command goes on with one that was interrupted."""
    from triptych.cli.watch import ConsoleWatcher
    from triptych.config.read import read_config
    from triptych.report import Study, answer, print_tables
    from triptych.runner.run import run_experiment

    console = new_console()
    settings = read_config(config, sets or [])
    folder = out or Path("runs") / settings.name
    record = run_experiment(settings, folder, fresh=fresh, watcher=ConsoleWatcher(console))
    print_tables(record, console)
    for sentence in answer(Study(record)):
        console.print(sentence)
    console.print(f"\nreport: {folder / 'report.html'}", soft_wrap=True)
