"""`triptych`: exit code 0 done, 2 the input is wrong, 1 anything else."""

from __future__ import annotations

import io
import logging
import signal
import sys
import threading
import traceback
import warnings
from types import FrameType
from typing import Annotated, Any

import typer

from triptych.api.advice import for_the_command_line, message_for
from triptych.cli import config, data, doctor, plan, predict, preview, prompts, report, reproduce, run, score, tune
from triptych.errors import InputError, Interrupted, TriptychError
from triptych.terminal import new_console, open_streams, shown
from triptych.version import __version__

app = typer.Typer(
    name="triptych",
    help="Is a better prompt enough, do in-context examples do it, or should I fine-tune?",
    no_args_is_help=True,
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
_command: str | None = None

# typer raises click's errors or, in later versions, its own copies of them: BadParameter is a UsageError in both
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_CTRL_C = 130


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"triptych {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library warnings.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    global _debug, _command
    _debug, _command = debug, context.invoked_subcommand
    if debug:
        logging.captureWarnings(True)
        return
    warnings.simplefilter("ignore")  # libraries' warnings tell our users nothing they can act on
    for library in ("bitsandbytes", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _arguments() -> list[str]:
    """The command line, with `~` expanded as a shell does, and also behind `--option=`, where most shells don't.

    A text with braces or line breaks is a prompt, not a path.
    """
    from triptych.records.disk import at_home

    expanded = []
    for text in sys.argv[1:]:
        option, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
        plain = "{" in text or "\n" in text
        expanded.append(text if plain else f"{option}{equals}{at_home(value)}")
    return expanded


def _options_by_command() -> dict[str, frozenset[str]]:
    """Command -> its options; of a group (`data`) those of all its commands."""
    top: Any = typer.main.get_command(app)
    commands = {name: list(getattr(one, "commands", {"": one}).values()) for name, one in top.commands.items()}
    return {
        name: frozenset(option for one in ones for parameter in one.params for option in parameter.opts)
        for name, ones in commands.items()
    }


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
    open_streams()
    errors = new_console(stderr=True, soft_wrap=True)
    before = _stop_on_sigterm()
    try:
        with for_the_command_line():
            code = app(args=_arguments(), prog_name="triptych", standalone_mode=False)
        if code == _CTRL_C:
            raise KeyboardInterrupt
    except _UsageError as error:
        usage = io.StringIO()
        error.show(usage)  # type: ignore[attr-defined]
        errors.print(shown(usage.getvalue()), end="")
        code = 2
    except TriptychError as error:
        if _debug:
            errors.print(traceback.format_exc())
        said = message_for(error, _command, _options_by_command()) if isinstance(error, InputError) else str(error)
        errors.print(said if isinstance(error, Interrupted) else f"error: {said}")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):  # typer turns the first into the second, or into an exit code
        errors.print("stopped. What was finished is saved; the same command continues from there.")
        code = 1
    except Exception as error:
        if _debug:
            errors.print(traceback.format_exc())
        unexpected = "this is not a mistake of yours that Triptych knows; `triptych --debug …` shows where it happened"
        lines = [f"error: {type(error).__name__}: {error}", unexpected, *getattr(error, "__notes__", ())]
        errors.print("\n  ".join(lines))
        code = 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
