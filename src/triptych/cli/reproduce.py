"""`triptych reproduce`: does a run come out again, and if not, what moved it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from triptych.cli import options
from triptych.terminal import new_console, new_table, write_json
from triptych.terminal import shown as escaped

if TYPE_CHECKING:
    from triptych.reproduce.differences import Fact
    from triptych.reproduce.reproduce import Reproduction

_STYLES = {"same": "dim", "changed": "bold yellow", "unknown": "cyan", "exact": "green", "different": "bold red"}


def reproduce(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where to compute it again.  [default: RUN_DIR-reproduced]")] = None,
    cells: Annotated[list[str] | None, typer.Option(help="Only this cell; may be given several times.")] = None,
    only_check: Annotated[bool, typer.Option("--only-check", help="Say what differs now, compute nothing.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of the data files, if they were moved.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, if its name means nothing here.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compute a finished run again and say which numbers agree, and what moved the others.

    Exit code 0: all agree (with --only-check: nothing that decides numbers changed). 1: numbers moved.
    """

    from triptych.console import ConsoleReporter
    from triptych.reproduce.differences import decides
    from triptych.reproduce.reproduce import reproduce as again

    console = new_console()
    found = again(
        run_dir,
        out=out,
        cells=cells or (),
        only_check=only_check,
        data=data,
        model=model,
        reporter=ConsoleReporter(new_console(stderr=True) if as_json else console),
    )
    if as_json:
        write_json(found.as_json(), indent=1)
    else:
        _print(found, console)
    moved = any(fact.status == "changed" and decides(fact) for fact in found.facts)
    if found.verdict == "different" or (found.verdict is None and moved):
        raise typer.Exit(1)


def _print(found: Reproduction, console: Console) -> None:
    _print_facts(found.facts, console)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if found.verdict is None:
        changed = [fact for fact in found.facts if fact.status == "changed"]
        console.print(
            f"{len(changed)} changed; nothing was recomputed" if changed else "nothing changed; nothing was recomputed"
        )
        return
    _print_numbers(found, console)
    sentence = {
        "exact": "exact: every number came out again, bit by bit",
        "within tolerance": f"within tolerance for {found.dtype}: no number moved beyond rounding",
        "different": "different: numbers moved",
    }[found.verdict]
    console.print(Text(sentence, style=_STYLES.get(found.verdict, "")))
    console.print(f"computed again in {found.out}", soft_wrap=True)


def _print_facts(facts: tuple[Fact, ...], console: Console) -> None:
    from rich import box

    from triptych.reproduce.differences import shortened

    columns = ("what", "then", "now", "")
    table = new_table("Then and now", *columns, left=4, box=box.SIMPLE_HEAD, title_style="bold")
    for fact in facts:
        style = _STYLES[fact.status]
        now = "" if fact.status == "same" else shortened(fact.now)
        then = "(not recorded)" if fact.then is None and fact.status == "unknown" else shortened(fact.then)
        table.add_row(*(Text(escaped(part), style=style) for part in (fact.name, then, now, fact.status)))
    console.print(table)


def _print_numbers(found: Reproduction, console: Console) -> None:
    from rich import box

    columns = ("cell or training", "ppl_mean then", "now", "max |ΔNLL/token|")
    table = new_table("Numbers", *columns, box=box.SIMPLE_HEAD, title_style="bold")
    table.add_column("")
    causes: dict[str, list[str]] = {}
    for cell in found.cells:
        gap = "-" if cell.max_nll_per_token is None else f"{cell.max_nll_per_token:.2g}"
        means = (f"{cell.ppl_mean_then:.4f}", f"{cell.ppl_mean_now:.4f}")
        verdict = Text(cell.verdict, style=_STYLES.get(cell.verdict, ""))
        table.add_row(Text(escaped(cell.cell)), *means, gap, verdict)
        for cause in cell.causes:
            causes.setdefault(cause, []).append(cell.cell)
    for training in found.trainings:
        adapter = "same adapter" if training.same_adapter else "other adapter"
        curve = "" if training.max_ppl_curve is None else f"curve {training.max_ppl_curve:.2g}"
        verdict = Text(training.verdict, style=_STYLES.get(training.verdict, ""))
        table.add_row(Text(escaped(f"training {training.name}")), adapter, curve, "", verdict)
        for cause in training.causes:
            causes.setdefault(cause, []).append(f"training {training.name}")
    console.print(table)
    for cause, names in causes.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        console.print(f"  {cause}: {shown}", soft_wrap=True)
