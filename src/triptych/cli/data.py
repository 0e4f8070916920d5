"""`triptych data`: what is in the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from triptych.cli import options
from triptych.terminal import new_console, new_table, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from triptych.data.findings import FileSurvey, Likeness, Repeats, Survey

app = typer.Typer(help="Look at data before it is used.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()  # without one, typer would make a group of one command the command itself
def _data() -> None:
    """Look at data before it is used."""


@app.command("check")
def check(
    train: Annotated[str, typer.Argument(help="File, file#N for a sample, or hub id.", show_default=False)],
    test: Annotated[
        str | None, typer.Argument(help="The same, to look for its rows in TRAIN.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Count tokens with this model's tokenizer: hub id, folder, .gguf, `demo` or `demo-chat`."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="The file's column of instruction, output, id or input."),
    ] = None,
    within: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Rows of a file are near from this Jaccard index of trigrams on.")
    ] = 0.7,
    across: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Test rows are near train rows from this one on.")
    ] = 0.5,
    as_json: options.AsJson = False,
) -> None:
    """Look for repeated and nearly repeated rows, test rows in train, empty outputs, odd characters; show lengths."""
    from triptych.console import ConsoleReporter
    from triptych.data.survey import survey
    from triptych.progress import Silent

    console = new_console()
    found = survey(
        _place(train),
        None if test is None else _place(test),
        columns=_mapping(columns or []),
        within=within,
        across=across,
        count_tokens=None if model is None else _counter(model),
        reporter=Silent() if as_json else ConsoleReporter(console),
    )
    if as_json:
        write_json(asdict(found), indent=1)
        return
    _print(found, console)


def _place(source: str) -> str | Path:
    """The bundled samples' files may be named `sample/train.json`."""
    from triptych.config.sources import SAMPLES
    from triptych.data import sample_folder
    from triptych.records.disk import is_there

    folder, slash, name = source.partition("/")
    return sample_folder(folder) / name if folder in SAMPLES and slash and not is_there(source) else source


def _mapping(columns: Sequence[str]) -> dict[str, str] | None:
    from triptych.errors import ConfigError

    mapping = {name: column for name, _, column in (text.partition("=") for text in columns)}
    if not all(mapping) or not all(mapping.values()):
        found = next(text for text in columns if not all(text.partition("=")))
        raise ConfigError("a --column is not NAME=COLUMN", found=found, expected="e.g. --column instruction=question")
    return mapping or None


def _counter(model: str) -> Callable[[Sequence[str]], list[int]]:
    from triptych.config.model import ModelConfig
    from triptych.models import load_profile

    profile = load_profile(ModelConfig(name=model))

    def count(texts: Sequence[str]) -> list[int]:
        counts: list[int] = []
        for start in range(0, len(texts), 1000):
            part = list(texts[start : start + 1000])
            counts += map(len, profile.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])
        return counts

    return count


def _print(found: Survey, console: Console) -> None:
    files = {"train": found.train} | ({"test": found.test} if found.test else {})
    for file in files.values():
        of = f" of {file.n_in_file}" if file.n_in_file > file.n_rows else ""
        console.print(f"{file.path}: {file.n_rows}{of} rows; {file.format}")
        for note in file.notes:
            console.print(f"{file.path}: {note}")
    console.print(_lengths(files))
    table = new_table("Findings", "what", "where", "rows", "for example", left=4)
    table.columns[2].justify = "right"
    lines = [line for where, file in files.items() for line in _findings(where, file)] + _crossings(found)
    for line in lines:
        table.add_row(*(text.replace("\n", " ") for text in line))
    if lines:
        console.print(table)
    else:
        console.print("nothing found: no repeated, empty or nearly repeated rows and no odd characters")


def _lengths(files: dict[str, FileSurvey]) -> Table:
    table = new_table("Lengths", "column", "file", "mean", "p50", "p95", "p99", "longest", left=2)
    for where, file in files.items():
        for name, spread in file.lengths.items():
            unit = "" if name.endswith("tokens") else " characters"
            numbers = (spread.p50, spread.p95, spread.p99, spread.longest)
            table.add_row(name + unit, where, f"{spread.mean:.1f}", *(f"{number:.0f}" for number in numbers))
    return table


def _findings(where: str, file: FileSurvey) -> list[tuple[str, str, str, str]]:
    repeats = {
        "rows that repeat another": file.rows,
        "instructions asked more than once": file.instructions,
        "bodies asked more than once": file.bodies,
        "outputs given more than once": file.outputs,
        "pairs that are there both ways round": file.flipped,
    }
    lines = [_repeated(what, where, found) for what, found in repeats.items() if found.n_groups]
    if file.near.n_pairs:
        lines.append(_nearly(f"bodies nearly equal (Jaccard ≥ {file.near.threshold:g})", where, file.near))
    counts = {
        "no output": file.n_without_output,
        "empty outputs": file.n_empty_outputs,
        "outputs that repeat the body": file.n_copies,
        "white space at an end": file.n_padded,
    }
    lines += [(what, where, str(n), "") for what, n in counts.items() if n]
    for kind, odd in file.odd.items():
        points = ", ".join(f"{point} x {n}" for point, n in list(odd.code_points.items())[:5])
        lines.append((kind, where, str(odd.n_rows), f"{points} in {', '.join(map(_short, odd.examples))}"))
    return lines


def _crossings(found: Survey) -> list[tuple[str, str, str, str]]:
    across = found.across
    if across is None:
        return []
    met = {
        "test rows that are in train": across.exact,
        "test instructions that are in train": across.instructions,
        "test bodies that are in train": across.bodies,
        "test outputs that are in train": across.outputs,
    }
    lines = [_repeated(what, "test in train", groups, of_test=True) for what, groups in met.items() if groups.n_groups]
    if across.near.n_pairs:
        what = f"test bodies near a train body (Jaccard ≥ {across.near.threshold:g})"
        lines.append(_nearly(what, "test in train", across.near))
    return lines


def _repeated(what: str, where: str, found: Repeats, *, of_test: bool = False) -> tuple[str, str, str, str]:
    named = [f"“{group.text}” ({', '.join(map(_short, group.ids[:2]))})" for group in found.examples[:2]]
    more = f" … {found.n_groups} in all" if found.n_groups > 2 else ""
    return what, where, str(found.n_groups if of_test else found.n_rows), "; ".join(named) + more


def _nearly(what: str, where: str, found: Likeness) -> tuple[str, str, str, str]:
    named = [f"{_short(a)} ~ {_short(b)} ({likeness:.2f})" for a, b, likeness in found.examples[:2]]
    return what, where, str(found.n_rows), "; ".join(named)


def _short(row_id: str) -> str:
    """The table has no room for a UUID; `--json` has it whole."""
    return row_id if len(row_id) <= 12 else f"{row_id[:8]}…"
