"""`triptych`: exit code 0 done, 2 the input is wrong, 1 anything else."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import traceback
import warnings
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

import triptych
from triptych.cli import config, data, doctor, plan, predict, preview, prompts, report, reproduce, run, score, tune
from triptych.errors import Interrupted, TriptychError

__all__ = ["app", "main"]

app = typer.Typer(
    name="triptych",
    help="Is a better prompt enough, do in-context examples do it, or should I fine-tune?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("score")(score.score)
app.command("tune")(tune.tune)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("plan")(plan.plan)
app.command("doctor")(doctor.doctor)
app.command("preview")(preview.preview)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(prompts.app, name="prompts")
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")

_debug = False

# typer raises click's errors or, in later versions, its own copies of them: BadParameter is a UsageError in both
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_CTRL_C = 130


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"triptych {triptych.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library warnings.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    global _debug  # noqa: PLW0603 - read by main(), which runs around typer
    _debug = debug
    if not debug:
        _hush()


def _hush() -> None:
    """Libraries' warnings tell our users nothing they can act on."""
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _stop_on_sigterm() -> Any:
    """Let SIGTERM stop a command as Ctrl-C does. Returns the handler before; None where none may be set.

    Training has a handler of its own meanwhile, which finishes the step first.
    """
    if threading.current_thread() is not threading.main_thread():
        return None

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, on_signal)


def main() -> None:
    """Entry point: every way to fail ends in one readable message and an exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    before = _stop_on_sigterm()
    try:
        code = app(prog_name="triptych", standalone_mode=False)
        if code == _CTRL_C:
            raise KeyboardInterrupt
    except _UsageError as error:
        error.show()  # type: ignore[attr-defined]
        code = 2
    except TriptychError as error:
        if _debug:
            traceback.print_exc()
        message = str(error) if isinstance(error, Interrupted) else f"error: {error}"
        errors.print(message, markup=False, highlight=False)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):  # typer turns the first into the second, or into an exit code
        errors.print("stopped. What was finished is saved; the same command goes on from there.")
        code = 1
    except Exception as error:
        if _debug:
            traceback.print_exc()
        errors.print(
            "\n  ".join(
                [
                    f"error: {type(error).__name__}: {error}",
                    "this is not a mistake of yours that Triptych knows; `triptych --debug …` shows where it happened",
                    *getattr(error, "__notes__", ()),
                ]
            ),
            markup=False,
            highlight=False,
        )
        code = 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
