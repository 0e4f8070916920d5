"""`triptych predict`: what the model writes for each row; and the check of a file of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from triptych.cli import options
from triptych.config.choices import MAX_TOKENS
from triptych.terminal import new_console, shown

if TYPE_CHECKING:
    from triptych.generate.check import Check
    from triptych.runner.predict import Predictions

_NAMED = 8


def predict(
    data: Annotated[str, typer.Option(help="Rows to predict; they may have no outputs.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, .gguf file, or `demo`.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the predictions.", show_default=False)] = None,
    check: Annotated[
        Path | None, typer.Option(help="Write nothing: look at this file of predictions for --data.")
    ] = None,
    prompt: options.PromptName = "default",
    template: options.TemplateText = None,
    shots: options.ShotCount = 0,
    seed: Annotated[int, typer.Option(help="Seed of the demonstrations' draw, and of drawn tokens.")] = 0,
    draw: options.Draw = "item",
    pool: options.Pool = None,
    select: options.Select = "random",
    order: options.Order = None,
    column: options.Column = None,
    max_similarity: options.MaxSimilarity = None,
    mmr_lambda: options.MmrLambda = 0.5,
    embedding: options.Embedding = "model",
    adapter: Annotated[Path | None, typer.Option(help="Write with this adapter on.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most new tokens of a row.")] = 256,
    max_new_ratio: Annotated[
        float | None, typer.Option(help="Most new tokens of a row per token of its prompt.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token. Above it, tokens are drawn.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that make up so much.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0: all.")] = 0,
    beams: Annotated[int, typer.Option(help="Beam search with so many beams.")] = 1,
    no_repeat_ngram: Annotated[
        int, typer.Option(help="Never write so many tokens in a row that prompt or output has already; 0: no rule.")
    ] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End a row where this text begins; may be repeated.")] = None,
    stop_texts: Annotated[bool, typer.Option(help="End a row where the prompt's own fixed texts begin again.")] = True,
    revision: options.Revision = None,
    quantize: options.Quantize = "nf4",
    double_quant: options.DoubleQuant = True,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    hold: options.Hold = "auto",
    threads: options.Threads = None,
    allow_pickle: options.AllowPickle = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Predict the first so many rows.")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest prompt with its output.")] = MAX_TOKENS,
    batch_rows: Annotated[int | None, typer.Option(min=1, help="Rows written at a time.  [default: by memory]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what is there, whatever made it.")] = False,
) -> None:
    """Write each row's output: JSON list of id and output, in the data's order. The same command resumes it."""
    given = dict(locals())
    console = new_console()
    del given["check"]
    if check is not None:
        _check_file(console, check, data, limit)
        return
    from triptych.api import calls
    from triptych.console import ConsoleReporter
    from triptych.errors import ConfigError

    for option in ("model", "out"):
        if given[option] is None:
            raise ConfigError(
                "an option is missing", where=f"--{option}", fix="give it, or look at a file with --check"
            )
    result = calls.predict(**given, reporter=ConsoleReporter(console)).written
    _say(console, result)
    console.print(f"predictions: {out}", soft_wrap=True)


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
