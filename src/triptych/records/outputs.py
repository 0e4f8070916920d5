"""Checked before anything is computed: no output replaces a file that is read, nor one that Triptych did not write.

All commands that write a file which the user names (`score`, `predict`, `config init`) check it here; a run's folder
has a manifest besides (`manifest`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from triptych.errors import ConfigError, ForeignFileError
from triptych.records.disk import at_home, is_there
from triptych.records.run_files import json_or_none


def check_output(
    out: Path,
    *,
    reads: Mapping[str, str | Path | None],
    ours: Callable[[Path], bool],
    what: str,
    force: bool = False,
    by: str = "--force",
    example: str = "scores.json",
) -> None:
    """Check that a file can be written without losing one of the user's.

    Args:
        out: the file.
        reads: option -> file or folder that the command reads; None, and names that are no path, are ignored.
        ours: whether a file that is there is one that the command wrote before, and may replace.
        what: what is written, for messages: `the scores`.
        force: replace a file that the command did not write; one that it reads never.
        by: the option that is `force`.
        example: a name for such a file.

    Raises:
        ConfigError: `out` is a folder.
        ForeignFileError: the file is read, or is not Triptych's.
    """
    if is_there(out, Path.is_dir):
        raise ConfigError(
            f"{what} go into a file, and this is a folder",
            where="--out",
            found=str(out),
            fix=f"give the file's name too, e.g. --out {out / example}",
        )
    check_not_read([out], reads, what=what)
    if not os.path.lexists(out) or ours(out):
        return
    for role, folder in reads.items():
        if folder and is_there(folder, Path.is_dir) and Path(folder).resolve() in out.resolve().parents:
            raise _is_read(out, role, Path(folder), what)
    if not force:
        raise ForeignFileError(
            f"there is a file already, and it is not one that holds {what.removeprefix('the ')}",
            where=f"--out {out}",
            found="a file that this command did not write",
            expected=f"no file, or {what} of an earlier command",
            fix=f"give another name with --out, or {by} to replace it",
        )


def check_not_read(outputs: Iterable[Path], reads: Mapping[str, str | Path | None], *, what: str) -> None:
    """Refuse a file that is both read and written. Two names of one file (a link, `./`) are one file."""
    read = {role: Path(at_home(path)) for role, path in reads.items() if path}
    for out in outputs:
        for role, path in read.items():
            if _same(out, path):
                raise _is_read(out, role, path, what)


def _is_read(out: Path, role: str, path: Path, what: str) -> ForeignFileError:
    return ForeignFileError(
        f"{what} would replace what is read: {role}",
        where=f"--out {out}",
        found=f"{role} {path}",
        expected="a file that the command does not read",
        fix="give another name with --out",
    )


def is_scores(path: Path) -> bool:
    """Whether a file is what `triptych score` writes."""
    value = json_or_none(path)
    return isinstance(value, dict) and {"schema_version", "items", "aggregate", "provenance"} <= value.keys()


def _same(out: Path, path: Path) -> bool:
    try:
        return out.samefile(path)
    except (OSError, ValueError):
        return Path.cwd() / out == Path.cwd() / path
