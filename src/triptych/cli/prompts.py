"""`triptych prompts`: what prompts there are, and how one looks."""

from __future__ import annotations

from typing import Annotated

import typer

from triptych.cli import options
from triptych.terminal import new_console, new_table, write_json, write_text

app = typer.Typer(help="The prompts that ship, and how they look.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_prompts(as_json: options.AsJson = False) -> None:
    """List the prompts that ship; `show` says where one comes from."""
    from triptych.prompts import catalogue

    templates = catalogue()
    if as_json:
        content = [{"name": t.name, "description": t.description, **t.record()} for t in templates.values()]
        write_json(content, indent=1)
        return
    columns = ("name", "language", "style", "what it does")
    table = new_table(None, *columns, left=4, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[:3]:
        column.no_wrap = True
    for template in templates.values():
        table.add_row(template.name, template.language, template.style, template.description)
    new_console().print(table)


@app.command("show")
def show_prompt(
    name: Annotated[str, typer.Argument(help="A prompt's name, or a template file of your own.", show_default=False)],
    k: Annotated[int, typer.Option("--k", min=0, help="Demonstrations to show in it.")] = 0,
) -> None:
    """Show a prompt on a row of the bundled sample, as the model would get it."""
    from triptych.prompts import show_on_sample

    write_text(show_on_sample(name, k))
