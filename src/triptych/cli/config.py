"""`triptych config`: a configuration to begin with, and the schema of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triptych.terminal import new_console, write_json

app = typer.Typer(help="Write a configuration, or its schema.", no_args_is_help=True, rich_markup_mode=None)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of a configuration, for editors that complete and check YAML."""
    from triptych.config.starter import schema as schema_of

    write_json(schema_of(), indent=2)


@app.command("init")
def init(
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, .gguf file, `demo` or `demo-chat`.  [default: demo]")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Training rows: file, file#N or hub id.")] = None,
    test: Annotated[str | None, typer.Option(help="Test rows: the same.")] = None,
    strategies: Annotated[
        str | None, typer.Option(help="Of zero_shot, few_shot and qlora, with commas.  [default: all that can be run]")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a configuration with every key explained, from options or, on a terminal, from answers.

    Prompts suit the model (its chat template) and the language of the rows, metrics the outputs.
    """
    from triptych.config.sources import SAMPLES
    from triptych.config.starter import starter_settings, write_starter
    from triptych.grid.suited import starter_choices

    if not any((model, train, test, strategies)) and sys.stdin.isatty():
        model = typer.prompt("Model (hub id, folder, .gguf file, `demo` or `demo-chat`)", default="demo")
        train = (
            typer.prompt(f"Training rows (file, hub id, {' or '.join(SAMPLES)}, or nothing)", default=SAMPLES[0])
            or None
        )
        if train not in SAMPLES:
            test = typer.prompt("Test rows (file or hub id)")
    chosen = [name.strip() for name in strategies.split(",")] if strategies is not None else None
    suited = starter_choices(model, train, test)
    settings = starter_settings(
        model=model, train=train, test=test, strategies=chosen, prompts=suited.prompts, metrics=suited.metrics
    )
    write_starter(out, settings, force=force)
    notes = new_console(stderr=True)
    for warning in suited.warnings:
        notes.print(f"note: {warning}", soft_wrap=True)
    for role in ("train", "test"):
        _say_if_missing(settings["data"].get(role), settings["data"].get("dir"), role, notes)
    said = new_console()
    for note in suited.notes:
        said.print(note, soft_wrap=True)
    said.print(f"written: {out}", soft_wrap=True)


def _say_if_missing(source: str | None, folder: str | None, role: str, notes: Console) -> None:
    from triptych.config.sources import split_sample
    from triptych.records.disk import is_there

    if source is None and not folder:
        notes.print(f"note: no {role} rows are named: data.{role} is {role}.json beside the file")
    elif source is not None and not folder and Path(source).suffix and not is_there(split_sample(source)[0]):
        notes.print(f"note: {source} is not there yet", soft_wrap=True)
