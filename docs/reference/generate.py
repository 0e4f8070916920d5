"""Pages that are written from the program itself, so that they can't say something else: a hook of mkdocs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what a placeholder names in its place."""
    for name, write in {"command line": command_line, "configuration": configuration}.items():
        placeholder = f"<!-- generated: {name} -->"
        if placeholder in markdown:
            markdown = markdown.replace(placeholder, write())
    return markdown


def command_line() -> str:
    """Every command with its arguments and options."""
    return "\n".join(line for name, command in commands() for line in _section(name, command))


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the program by its whole name, `triptych data check` for one."""
    import typer.main

    from triptych.cli.main import app

    yield from _below("triptych", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for inner, below in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {inner}", below)
    if not hasattr(command, "commands"):
        yield name, command


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    yield from ("", f"## {name}", "", command.help or "", "")
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_metavar, arguments)])
    yield from ("```text", usage, "```", "")
    for title, params in (("argument", arguments), ("option", options)):
        if params:
            yield from (f"| {title} | what |", "|---|---|")
            yield from (f"| {_names(one)} | {_cell(one)} |" for one in params)
            yield ""


def _metavar(one: Any) -> str:
    name = one.metavar or str(one.name).upper()
    return name if one.required else f"[{name}]"


def _names(one: Any) -> str:
    names = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [_metavar(one)]
    return ", ".join(f"`{name}`" for name in names)


def _cell(one: Any) -> str:
    text = (one.help or "").replace("|", "\\|")
    choices = getattr(one.type, "choices", None)
    if choices:
        text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    default = one.default
    plain = default is not None and not callable(default) and default not in (False, (), [])
    return text + (f" Default: `{default}`." if plain and "[default:" not in text else "")


def configuration() -> str:
    """A configuration with every key, its default and its meaning."""
    from triptych.experiment.starter import starter_settings, starter_text

    settings = starter_settings(model="demo", train="sample")
    return f"```yaml\n{starter_text(settings)}```\n"
