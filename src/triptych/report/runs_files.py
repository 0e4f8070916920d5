"""The comparison of several runs as files: `comparison.md` and a CSV and LaTeX table each."""

from __future__ import annotations

from pathlib import Path

from triptych.records.process_lock import work_in
from triptych.records.run_files import COMPARISON
from triptych.records.store import write_text
from triptych.report.build import write_tables
from triptych.report.runs import RunsCompared
from triptych.report.tables.rendering import escape, to_markdown


def write_comparison(compared: RunsCompared, folder: Path) -> Path:
    """Write the files and name the one to read first.

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write lies where one of these belongs; nothing is written.
    """
    with work_in(folder) as manifest:
        manifest.check_free(COMPARISON)
        return _write(compared, folder)


def _write(compared: RunsCompared, folder: Path) -> Path:
    parts = ["# Several runs"]
    if compared.refused:
        parts.append("\n".join(f"- {escape(sentence)}" for sentence in compared.refused))
    for table in compared.tables.values():
        parts.append(f"## {escape(table.title)}\n\n{to_markdown(table)}\n\n{escape(table.note)}")
    path = folder / "comparison.md"
    write_text(path, "\n\n".join(parts) + "\n")
    write_tables(compared.tables, folder / "tables")
    return path
