"""`--fresh`: an earlier run's files are set aside while the new run begins, and removed when it holds work of its own.

    OUT/.replaced/            the earlier run's files, moved there one by one; its manifest last
    OUT/.replaced/begun       the new run has results: what was set aside is no longer needed

So a failure, or a kill at any moment, leaves the old run or the new one: `restore` puts the old one back where the new
one had not begun. Only what the manifest names is moved, and nothing behind a linked folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from triptych.errors import ForeignFileError
from triptych.records.manifest import MANIFEST, Manifest

AWAY = ".replaced"
_BEGUN = "begun"


def check_no_links(manifest: Manifest) -> None:
    """Refuse a file of the earlier run behind a linked folder, where it would be neither removed nor replaced."""
    for name in manifest.files:
        link = manifest.linked(name)
        if link is not None and os.path.lexists(manifest.folder / name):
            raise ForeignFileError(
                "an earlier run's files are behind a link, and --fresh removes nothing there",
                where=str(link),
                found=f"a link to {os.path.realpath(link)}",
                expected="a folder",
                fix="remove the link, or give another folder with --out",
            )


def set_aside(manifest: Manifest, *, but: Collection[str] = ()) -> None:
    """Move the manifest's files to `.replaced/`; those that were edited stay, under a name of their own."""
    away = manifest.folder / AWAY
    staying = {name: manifest.files[name] for name in but if name in manifest.files}
    manifest.save()  # folders of older versions have none, and their files are recognized by name
    for name in [name for name in manifest.files if name not in staying]:
        if manifest.linked(name) or not os.path.lexists(manifest.folder / name):
            continue
        if manifest.edited(name):
            manifest.remove(name)
            continue
        target = away / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (manifest.folder / name).replace(target)
        _remove_empty((manifest.folder / name).parent, manifest.folder)
    away.mkdir(exist_ok=True)
    (manifest.folder / MANIFEST).replace(away / MANIFEST)
    manifest.files = staying
    if staying:
        manifest.save()


def restore(folder: Path) -> bool:
    """Put back what was set aside for a run that did not begin. Returns whether there was something to put back."""
    away = folder / AWAY
    if away.is_symlink() or not away.is_dir():
        return False
    if (away / _BEGUN).exists():
        drop(folder)
        return False
    if (away / MANIFEST).exists() and (new := Manifest.read(folder)) is not None:
        old = Manifest.read(away)
        for name in list(new.files):
            if old is None or name not in old.files or os.path.lexists(away / name):  # else it was never moved
                new.remove(name, save=False)
                _remove_empty((folder / name).parent, folder)
        (folder / MANIFEST).unlink()
    for path in sorted(away.rglob("*")):
        target = folder / path.relative_to(away)
        if (path.is_dir() and not path.is_symlink()) or path == away / MANIFEST:
            continue
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    if (away / MANIFEST).exists():
        (away / MANIFEST).replace(folder / MANIFEST)
    folders = [path for path in away.rglob("*") if path.is_dir() and not path.is_symlink()]
    for path in [*sorted(folders, reverse=True), away]:
        with contextlib.suppress(OSError):  # not empty: what could not be put back stays where it is
            path.rmdir()
    return True


def drop(folder: Path) -> None:
    """The new run holds work: remove what was set aside. Does nothing where nothing was."""
    away = folder / AWAY
    if away.is_symlink() or not away.is_dir():
        return
    (away / _BEGUN).touch()
    for path in away.iterdir():  # `begun` last: a kill in between leaves it to the next command
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _BEGUN:
            path.unlink()
    shutil.rmtree(away)


def _remove_empty(path: Path, top: Path) -> None:
    """Remove folders that hold nothing any more, up to `top`, which stays."""
    while path != top and not path.is_symlink():
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent
