"""`triptych doctor`: what works here, what doesn't, and what to do."""

from __future__ import annotations

import typer
from rich.text import Text

from triptych.cli import options
from triptych.terminal import new_console, shown, write_json

_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


def doctor(as_json: options.AsJson = False) -> None:
    """Check this machine by trying things out; exit code 1 if something can't work."""
    from dataclasses import asdict

    from triptych.doctor.doctor import diagnose

    console = new_console()
    found = []
    for finding in diagnose():
        found.append(finding)
        if not as_json:
            sign, colour = _SIGNS[finding.status]
            line = Text.assemble((sign, colour), shown(f" {finding.what}: {finding.found}"))
            console.print(line, soft_wrap=True)
            if finding.to_do:
                console.print(f"    {finding.to_do}", soft_wrap=True)
    failed = any(finding.status == "failure" for finding in found)
    if as_json:
        write_json({"ok": not failed, "findings": [asdict(f) for f in found]}, indent=2)
    if failed:
        raise typer.Exit(1)
