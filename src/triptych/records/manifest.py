"""`manifest.json` in a folder that Triptych writes: which of its files are Triptych's, so that no other is ever lost.

    {"triptych": "manifest", "format": 1, "files": {"report.md": ["SHA-256", "the one before"], "tune/log.jsonl": []}}

A file that the manifest doesn't name is never replaced and never removed, nor is one behind a linked folder removed.
One that it names and that holds something else than what was written (somebody edited it) is not lost either: before
it is replaced or removed it is renamed to `NAME.edited-1`, with a warning. Where files grow or a library writes them,
the manifest holds the name without a hash, and `NAME/` for a folder that a library fills: all of it is Triptych's.

The name is written before the file is in its place, with the hash of the content before beside the new one: a kill in
between leaves a file that is still Triptych's. Writers find the manifest by their folder (`open_manifest`). Where the
processes of one run write in a folder together, each change is made to the file's newest content, under a lock
(`shared`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from triptych.errors import ForeignFileError
from triptych.records.disk import disk_errors, sha256_of_file
from triptych.records.file_lock import file_lock
from triptych.records.run_files import json_or_none, known_before_manifest, matches

MANIFEST = "manifest.json"
MANIFEST_LOCK = ".manifest.json.lock"
_KIND = {"triptych": "manifest", "format": 1}
logger = logging.getLogger(__name__)
_open: dict[Path, Manifest] = {}
_lock = threading.RLock()  # a tracker's thread writes, too


class Manifest:
    """The files of one folder that are Triptych's. `folder` is absolute."""

    def __init__(self, folder: Path, files: dict[str, list[str]] | None = None) -> None:
        self.folder, self.files, self.shared = folder, files or {}, False

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """A folder's manifest; None where there is none, or a torn or foreign file of that name."""
        value = json_or_none(folder / MANIFEST)
        try:
            if not isinstance(value, dict) or {key: value[key] for key in _KIND} != _KIND:
                return None
            return cls(
                folder, {name: list(map(str, hashes)) for name, hashes in value["files"].items() if _inside(name)}
            )
        except (LookupError, TypeError, AttributeError):
            return None

    def save(self) -> None:
        """Write it, whole or not at all."""
        temporary = self.folder / f".{MANIFEST}.{os.getpid()}.tmp"
        text = json.dumps({**_KIND, "files": self.files}, ensure_ascii=False, indent=1)
        with disk_errors(self.folder / MANIFEST):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text + "\n", encoding="utf-8")
                temporary.replace(self.folder / MANIFEST)
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Where it is shared, read what other processes noted, and let none note anything until the block ends."""
        if not self.shared:
            yield
            return
        with file_lock(self.folder / MANIFEST_LOCK, exclusive=True):
            if newest := Manifest.read(self.folder):
                self.files = newest.files
            yield

    def name_of(self, path: Path) -> str | None:
        """A path's name in the folder; None if it is elsewhere."""
        try:
            return _absolute(path).relative_to(self.folder).as_posix()
        except ValueError:
            return None

    def lists(self, name: str) -> bool:
        """Whether the file is Triptych's, by itself or in a folder that a library fills."""
        return name in self.files or any(tree.endswith("/") and name.startswith(tree) for tree in self.files)

    def linked(self, name: str) -> Path | None:
        """The linked folder that a file is behind, if there is one."""
        parts = name.rstrip("/").split("/")
        folders = (self.folder.joinpath(*parts[:n]) for n in range(1, len(parts)))
        return next((path for path in folders if path.is_symlink()), None)

    def edited(self, name: str) -> bool:
        """Whether a file of Triptych's holds something that Triptych did not write. An empty file holds nothing."""
        path, hashes = self.folder / name, self.files.get(name)
        return bool(hashes and path.is_file() and path.stat().st_size and sha256_of_file(path) not in hashes)

    def check_free(self, patterns: Iterable[str]) -> None:
        """Check that only Triptych's own files are where files of these names will be written.

        Raises:
            ForeignFileError: something of the user's is there, or where a folder is needed.
        """
        for pattern in patterns:
            folder = self.folder / pattern.split("/")[0]
            if "/" in pattern and folder.exists() and not folder.is_dir():
                raise self._in_the_way(folder.name)
            for path in sorted(self.folder.glob(pattern)) if "*" in pattern else [self.folder / pattern]:
                name = path.relative_to(self.folder).as_posix()
                if os.path.lexists(path) and name != MANIFEST and not self.lists(name) and matches(name, pattern):
                    raise self._in_the_way(name)
        value = None if self.files else json_or_none(self.folder / MANIFEST)  # a torn one is Triptych's
        if value is not None and not (isinstance(value, dict) and value.get("triptych") == "manifest"):
            raise self._in_the_way(MANIFEST)

    def replacing(self, path: Path, new: Path) -> None:
        """Note that the file `new` is about to become `path`; rename an edited file that is there first.

        Raises:
            ForeignFileError: `path` is there and not Triptych's.
        """
        name = self.name_of(path)
        assert name is not None
        if os.path.lexists(path):
            edited = self.edited(name)
            if not self.lists(name) or (edited and self.linked(name)):
                raise self._in_the_way(name)
            if edited:
                self._keep_edited(name)
        hashes = self.files.get(name, [])
        if (sha256 := sha256_of_file(new)) not in hashes[:1]:
            self.files[name] = [sha256, *hashes[:1]]
            self.save()

    def claim(self, name: str) -> None:
        """Note a file, or `NAME/` for a folder, before something else than the store writes it.

        Raises:
            ForeignFileError: it is there and not Triptych's.
        """
        if self.lists(name):
            return
        if os.path.lexists(self.folder / name):
            raise self._in_the_way(name)
        self.files[name] = []
        self.save()

    def remove(self, name: str, *, save: bool = True) -> bool:
        """Remove a file of Triptych's that is not behind a link; keep an edited one. Returns whether it is gone."""
        path = self.folder / name
        if not self.lists(name) or self.linked(name):
            return not os.path.lexists(path)
        if self.edited(name):
            self._keep_edited(name)
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        self.files.pop(name, None)
        if save:
            self.save()
        return not os.path.lexists(path)

    def _keep_edited(self, name: str) -> None:
        path = self.folder / name
        number = 1
        while os.path.lexists(edited := path.with_name(f"{path.name}.edited-{number}")):
            number += 1
        path.rename(edited)
        logger.warning("%s was edited after Triptych wrote it; it is kept as %s", path, edited.name)

    def _in_the_way(self, name: str) -> ForeignFileError:
        path = self.folder / name
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a file"
        return ForeignFileError(
            f"{kind} that Triptych did not write is where one of its files belongs",
            where=str(path),
            found=f"{kind} that {MANIFEST} of {self.folder} doesn't name",
            expected="nothing there, or a file that an earlier run of Triptych wrote there",
            fix=f"move {path.name} to another folder, or give another folder with --out",
        )


@contextlib.contextmanager
def open_manifest(folder: Path) -> Iterator[Manifest]:
    """Note every file written in this folder in its manifest, until the end of the block."""
    at = _absolute(folder)
    if at in _open:
        yield _open[at]
        return
    _open[at] = Manifest.read(at) or Manifest(at, {name: [] for name in known_before_manifest(at)})
    try:
        yield _open[at]
    finally:
        del _open[at]


@contextlib.contextmanager
def shared_manifest(folder: Path) -> Iterator[Manifest]:
    """As `open_manifest`, while other processes of the same run write in the folder too."""
    with open_manifest(folder) as manifest:
        manifest.shared = True
        with manifest.changing():  # another process may have noted something since this one read it
            manifest.save()
        try:
            yield manifest
        finally:
            with manifest.changing():  # what the others noted is known here from now on
                manifest.shared = False


def is_open(folder: Path) -> bool:
    """Whether this process is writing in the folder, with its manifest open."""
    return _absolute(folder) in _open


def replacing(path: Path, new: Path) -> None:
    """See `Manifest.replacing`. Does nothing for a file in no folder with an open manifest."""
    with _lock:
        if (manifest := _of(path)) is not None:
            with manifest.changing():
                manifest.replacing(path, new)


def claim(*paths: Path, tree: bool = False) -> None:
    """See `Manifest.claim`; `tree`: they are folders that a library fills."""
    with _lock:
        for path in paths:
            if (manifest := _of(path)) is not None:
                with manifest.changing():
                    manifest.claim(f"{manifest.name_of(path)}{'/' if tree else ''}")


def written(*paths: Path) -> None:
    """Note the content of claimed files, now that they are whole: from here on an edit is seen."""
    with _lock:
        for path in paths:
            if (manifest := _of(path)) is None or not path.is_file():
                continue
            with manifest.changing():
                if (name := manifest.name_of(path)) in manifest.files:
                    manifest.files[name] = [sha256_of_file(path)]
                    manifest.save()


def remove(path: Path) -> bool:
    """See `Manifest.remove`; a file in no folder with an open manifest is removed. Returns whether it is gone."""
    with _lock:
        if (manifest := _of(path)) is not None:
            with manifest.changing():
                return manifest.remove(str(manifest.name_of(path)))
        path.unlink(missing_ok=True)
        return True


def _of(path: Path) -> Manifest | None:
    """The manifest that a path is noted in. Folders that are made under another name note nothing (`.NAME.tmp/`)."""
    for manifest in _open.values():
        if (name := manifest.name_of(path)) is not None:
            made = any(part.startswith(".") and part.endswith(".tmp") for part in name.split("/")[:-1])
            return None if made else manifest
    return None


def _absolute(path: Path) -> Path:
    """Without `..`, and with links as they are: a linked folder is another place than what it leads to."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name
