"""`triptych preview`: rows as the model will see them, and the checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from triptych.cli import options
from triptych.terminal import new_console, write_json

if TYPE_CHECKING:
    from triptych.checks.findings import Check
    from triptych.checks.preview import ShownRow

_EDGE = 4
"""Lines kept of each side of a long prompt."""
_SCORED = "bold black on green"


def preview(
    config: options.Config,
    rows: Annotated[int, typer.Option(min=0, help="Rows of each kind of cell.")] = 1,
    cell: Annotated[str | None, typer.Option(help="This cell alone, or `training NAME`.")] = None,
    sets: options.Sets = None,
    out: options.RunFolder = None,
    adapter: Annotated[Path | None, typer.Option(help="Another adapter whose prompt is compared.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Long prompts whole.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show rows as the model will see them, scored tokens marked and ids beside, and check them. Touches no weights."""

    from triptych.checks.preview import preview as build
    from triptych.checks.rows import require
    from triptych.config.read import read_config
    from triptych.runner.folder import RunFolder

    settings = read_config(config, sets or [])
    folder = RunFolder(out or Path("runs") / settings.name)
    found = build(settings, rows=rows, cell=cell, adapter_of=folder.adapter_of, adapter=adapter)
    if as_json:
        write_json(found.as_json(), indent=1)
    else:
        console = new_console()
        for row in found.rows:
            _print_row(row, console, full=full)
        if found.left_out:
            console.print(f"not shown, since the model chooses: {', '.join(found.left_out)}\n")
        for check in found.checks:
            _print_check(check, console)
    require(found.checks)


def _print_row(row: ShownRow, console: Console, *, full: bool) -> None:
    from rich import box
    from rich.table import Table

    from triptych.checks.preview import lines_of, visible

    rendered = row.rendered
    demos = f", demonstrations {', '.join(rendered.demo_ids)}" if rendered.demo_ids else ""
    dropped = f", {rendered.n_demos_dropped} dropped" if rendered.n_demos_dropped else ""
    title = (
        f"{row.cell}   row {rendered.row_id}{demos}{dropped}   {len(rendered.ids)} tokens, {rendered.n_scored} scored"
    )
    console.print(Text(visible(title), style="bold"), soft_wrap=True)
    lines = lines_of(row, max(24, (console.width - 6) * 2 // 5))
    prompt, scored = [x for x in lines if not x.scored], [x for x in lines if x.scored]
    cut = len(prompt) - 2 * _EDGE
    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(overflow="fold", style="dim")
    for number, line in enumerate(prompt):
        if not full and cut > 1 and _EDGE <= number < len(prompt) - _EDGE:
            if number == _EDGE:
                hidden = sum(len(x.ids) for x in prompt[_EDGE:-_EDGE])
                table.add_row("", Text(f"… {hidden} tokens more (--full)", style="italic"), "")
            continue
        table.add_row("", Text(line.text), " ".join(map(str, line.ids)))
    for line in scored:
        table.add_row("▌", Text(line.text, style=_SCORED), " ".join(map(str, line.ids)))
    console.print(table)


def _print_check(check: Check, console: Console) -> None:
    from triptych.checks.preview import visible

    sign, style = ("✓", "green") if check.passed else ("⚠", "yellow") if check.warning else ("✗", "bold red")
    console.print(Text.assemble((sign, style), f" {check.name}: {visible(check.detail)}"), soft_wrap=True)
    if check.fix and not check.passed and check.warning:
        console.print(Text(f"    {check.fix}", style="dim"), soft_wrap=True)
