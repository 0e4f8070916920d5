"""`triptych predict`: what the model writes for each row; and the check of a file of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from triptych.api import calls
from triptych.cli.options import option, options_of
from triptych.terminal import new_console, shown

if TYPE_CHECKING:
    from triptych.generate.check import Check
    from triptych.runner.predict import Predictions

_NAMED = 8


@options_of(
    calls.predict,
    option("model", str | None, None, help="Hub id, folder, .gguf file, `demo` or `demo-chat`."),
    option("check", Path | None, None, help="Write nothing: look at this file of predictions for --data."),
)
def predict(check: Path | None, **given: Any) -> None:
    """Write each row's output: JSON list of id and output, in the data's order. The same command resumes it."""
    console = new_console()
    if check is not None:
        _check_file(console, check, given["data"], given["limit"])
        return
    from triptych.console import ConsoleReporter
    from triptych.errors import ConfigError

    for name in ("model", "out"):
        if given[name] is None:
            raise ConfigError("an option is missing", where=f"--{name}", fix="give it, or look at a file with --check")
    result = calls.predict(**given, reporter=ConsoleReporter(console)).written
    _say(console, result)
    console.print(f"predictions: {given['out']}", soft_wrap=True)


def _say(console: Console, result: Predictions) -> None:
    ends = {"eos": "ended by the model", "stop_text": "ended by a stop text", "length": "cut at the most new tokens"}
    counts = [f"{sum(row.stopped_by == end for row in result.rows)} {says}" for end, says in ends.items()]
    tokens = sum(row.n_tokens for row in result.rows)
    speed = f" in {result.seconds:.1f} s" if result.seconds and not result.rows_known else ""
    lines = [f"{len(result.rows)} rows, {tokens} tokens{speed}: {', '.join(counts)}"]
    if result.quality:
        lines.append(
            f"chrF++ {result.quality.chrf:.2f} ({result.quality.chrf_signature})   "
            f"BLEU {result.quality.bleu:.2f} ({result.quality.bleu_signature})"
        )
    for line in lines:
        console.print(line, soft_wrap=True)
    if result.check.findings:
        _table(console, result.check)


def _check_file(console: Console, path: Path, data: str, limit: int | None) -> None:
    from triptych.generate.record import check_file

    result = check_file(path, data, limit)
    if result.findings:
        _table(console, result)
    verdict = "fails" if not result.ok else "passes" if result.findings else "passes, nothing found"
    console.print(f"{path}: {result.n_rows} predictions, {verdict}", soft_wrap=True)
    if not result.ok:
        raise typer.Exit(1)


def _table(console: Console, check: Check) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("finding", max_width=34)
    table.add_column("", no_wrap=True)
    table.add_column("rows", no_wrap=True)
    table.add_column("which", overflow="fold", min_width=20)
    for finding in check.findings:
        more = f" … and {len(finding.row_ids) - _NAMED} more" if len(finding.row_ids) > _NAMED else ""
        named = ", ".join(finding.row_ids[:_NAMED]) + more
        table.add_row(finding.says, "wrong" if finding.hard else "odd", str(len(finding.row_ids)), Text(shown(named)))
    console.print(table)
