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
    """What `--help` says of every command."""
    from typer.testing import CliRunner

    from triptych.cli.main import app

    runner, parts = CliRunner(), []
    for name in commands():
        said = runner.invoke(app, [*name.split()[1:], "--help"], prog_name="triptych", env={"COLUMNS": "100"})
        parts.append(f"## {name}\n\n```text\n{said.output.strip()}\n```\n")
    return "\n".join(parts)


def commands() -> Iterator[str]:
    """Every command of the program by its whole name, `triptych data check` for one."""
    import typer.main

    from triptych.cli.main import app

    yield from _below("triptych", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    for word, below in inner.items():
        yield from _below(f"{name} {word}", below)
    if not inner:
        yield name


def configuration() -> str:
    """A configuration with every key, its default and its meaning."""
    from triptych.config.starter import starter_settings, starter_text

    settings = starter_settings(model="demo", train="sample")
    return f"```yaml\n{starter_text(settings)}```\n"
