"""`triptych plan`: what an experiment takes, before it takes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from triptych.api import calls
from triptych.cli import options
from triptych.errors import ConfigError
from triptych.terminal import new_console, new_table, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from triptych.plan.plan import Plan

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MINUTE, _HOUR = 60, 3600


def plan(
    config: options.Config,
    sets: options.Sets = None,
    out: options.RunFolder = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of the machine to plan for, e.g. 8GiB.  [default: this one]"),
    ] = None,
    on: Annotated[str | None, typer.Option(metavar="EXECUTOR", help=options.help_of(calls.run, "on"))] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Load the model and time it, and remember its rates.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say what an experiment takes: cells, tokens, memory, time, disk, and what is done already. Reads no weights."""

    from triptych.config.read import read_config
    from triptych.console import ConsoleReporter
    from triptych.plan.plan import plan_experiment

    size = bytes_of(memory) if memory else None
    settings = read_config(config, sets or [])
    made = plan_experiment(
        settings,
        out or Path("runs") / settings.name,
        memory=size,
        calibrate=calibrate,
        on=on,
        reporter=ConsoleReporter(new_console(stderr=True)),
    )
    if as_json:
        write_json(made.record(), indent=2)
    else:
        _show(made, new_console())


def bytes_of(text: str) -> int:
    """Bytes of `8GiB`, `8G`, `16 GB`, `500m` or a plain number.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    unit = found and found[2].lower()
    if not found or (found[3] and not unit) or float(found[1]) <= 0:
        raise ConfigError("this is no amount of memory", where="--memory", found=text, expected="e.g. 8GiB or 24GB")
    return int(float(found[1]) * (_BINARY_UNITS[unit or ""] if found[3] else _UNITS[unit or ""]))


def _show(plan: Plan, console: Console) -> None:
    model, machine = plan.model, plan.machine
    console.print(
        f"{plan.name}: {model['name']}, {model['parameters'] / 1e6:,.0f} M parameters, {model['quantize']}, "
        f"{machine['dtype']} on {machine['device']}; run folder {plan.out}",
        soft_wrap=True,
    )
    for table in (_cells(plan), _trainings(plan), _memory(plan), _disk(plan)):
        if table.row_count:
            console.print(table)
    console.print(
        f"time: {_time(plan.seconds)} in all, {_time(plan.seconds_left)} left{_processes(plan)}\n  {plan.rates.said}",
        soft_wrap=True,
    )
    for warning in plan.warnings:
        console.print(f"! {warning}", soft_wrap=True)


def _processes(plan: Plan) -> str:
    n = plan.machine["processes"]
    return f", in {n} processes" if n > 1 else ""


def _table(title: str, *columns: str, left: int = 1) -> Table:
    return new_table(title, *columns, left=left, box=None, pad_edge=False)


def _cells(plan: Plan) -> Table:
    table = _table("\ncells", "cell", "rows", "tokens", "computed", "scored", "time", "")
    for cell in plan.cells:
        numbers = (cell.rows, cell.tokens, cell.forward_tokens, cell.scored_tokens)
        about = "" if cell.exact else "~"
        table.add_row(cell.name, *(f"{about}{n:,}" for n in numbers), _time(cell.seconds), "done" if cell.done else "")
    if len(plan.cells) > 1:
        sums = (
            sum(getattr(c, name) for c in plan.cells) for name in ("rows", "tokens", "forward_tokens", "scored_tokens")
        )
        table.add_row(
            "together", *(f"{n:,}" for n in sums), _time(sum(c.seconds for c in plan.cells)), "", style="bold"
        )
    return table


def _trainings(plan: Plan) -> Table:
    table = _table(
        "\ntrainings", "training", "rows", "steps", "tokens", "computed", "scored", "time", "curve", "time", ""
    )
    for one in plan.trainings:
        about = "" if one.exact else "~"
        table.add_row(
            one.name,
            f"{one.rows:,}",
            f"{one.steps:,}",
            *(f"{about}{n:,}" for n in (one.tokens, one.forward_tokens, one.scored_tokens)),
            _time(one.seconds),
            f"{one.points} x {one.rows_per_point} rows",
            _time(one.curve_seconds),
            "done" if one.done else f"at step {one.steps_done}" if one.steps_done else "",
        )
    return table


def _memory(plan: Plan) -> Table:
    where = "the named machine" if plan.machine["named"] else "this machine"
    available = _size(plan.memory[0].available)
    title = f"\nmemory{_processes(plan)}: {available} {'in' if plan.machine['named'] else 'free on'} {where}"
    table = _table(
        title, "", "weights held", "checkpointing", "peak", "process", "weights", "scoring", "training", left=3
    )
    for line in plan.memory:
        need = line.need
        recompute = {True: "on", False: "off", None: "-"}[line.recompute]
        table.add_row(
            "✓" if line.fits else "✗",
            line.held + (" (as set)" if line.chosen else ""),
            recompute,
            *(_size(n) for n in (need.peak, need.process, need.weights, need.scoring, need.training)),
            style=None if line.fits else "red",
        )
    return table


def _disk(plan: Plan) -> Table:
    table = _table("\ndisk (at most)", "", "what", "where", "needed", "free", left=3)
    for need in plan.disk:
        table.add_row("✓" if need.fits else "✗", need.what, need.where, _size(need.needed), _size(need.free))
    return table


def _size(n: int) -> str:
    return f"{n / (1 << 30):.1f} GiB" if n >= 1 << 30 else f"{n / (1 << 20):.0f} MiB"


def _time(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    if seconds >= 2 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 1 else "<1 s"
