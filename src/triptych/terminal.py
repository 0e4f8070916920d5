r"""The one way out for text that people read: standard output, standard error, and the lines of a run's log.

Rows, names and files may hold anything. Characters that a terminal would obey (ESC, OSC, NUL, carriage return), that
turn the direction of text or that no encoding can hold are written as escapes: `\x1b`, `\u202e`. What the output's
encoding can't hold is escaped too, so `PYTHONIOENCODING=ascii` stops no command. Square brackets are no markup.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction
    "\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"  # lines, marks, half characters, hidden tags
)


def shown(text: str) -> str:
    """The text with everything escaped that a terminal would obey; line feeds and tabs stay."""
    return _OBEYED.sub(lambda found: _escape(found[0]), text)


def new_console(*, stderr: bool = False, **options: Any) -> Console:
    """A console that writes text as it is: no markup, no highlighting, no emoji names, no character obeyed.

    With `NO_COLOR` set, and on a terminal that is `dumb`, nothing is bold or coloured.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Shown(Console):
        """Every renderable, the cells of tables and the columns of bars included, passes through `render`; texts are
        escaped before, where their width still counts.
        """

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(_encodable(shown(text), self.encoding), **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else _encodable(shown(segment.text), self.encoding)
                yield segment if text == segment.text else Segment(text, segment.style)

    if os.environ.get("NO_COLOR"):
        options.setdefault("color_system", None)  # rich's own way leaves bold and dim
    return Shown(stderr=stderr, markup=False, highlight=False, emoji=False, **options)


def new_table(title: str | None, *columns: str, left: int = 1, **options: Any) -> Table:
    """A table whose first `left` columns are aligned left and the others right; long cells are folded."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", **options)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    return table


def open_streams() -> None:
    """Make standard output and error hold any text; messages of libraries' logging are escaped as well."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # prints warnings that no handler takes
        logging.lastResort.setFormatter(LogFormatter("%(message)s"))


def write_text(text: str, stream: TextIO | None = None) -> None:
    """Write a line, or several, to standard output or another stream."""
    out = stream or sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    print(_encodable(shown(text), encoding), file=out)


def write_json(value: Any, *, indent: int = 1) -> None:
    """Write JSON to standard output: characters are escaped as JSON does it, so it is read back as it was."""
    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not utf, indent=indent)
    print(_OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text))


class LogFormatter(logging.Formatter):
    """Log lines with control characters escaped. Further lines of a message are indented: none looks like another."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return shown(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """See `logging.Formatter`."""
        record.message = record.message.replace("\n", "\n    ")
        return super().formatMessage(record)


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
