"""`triptych doctor`: whether this machine can do what Triptych needs, each line with what to do about it.

What needs torch is in `device`; here is the rest: versions, the cache, disk, fonts, bundled models.
"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from triptych.config.bundled import BUNDLED
from triptych.doctor.device import Finding, device_findings
from triptych.models.bundled import installed_parts
from triptych.models.cache import cache_folder

_DISTRIBUTION = "triptych"
_LITTLE_DISK, _NO_DISK = 5 << 30, 500 << 20
_CJK = {"Chinese": "語說们", "Japanese": "かなカ", "Korean": "한글"}


def diagnose() -> Iterator[Finding]:
    """All findings, one after another as they are made."""
    yield from device_findings()
    yield from _versions()
    yield _cache()
    yield _disk("disk, cache", cache_folder())
    yield _disk("disk, here", Path.cwd())
    yield _fonts()
    yield from _bundled()


def _versions() -> Iterator[Finding]:
    """Python and Triptych's dependencies: installed, new enough, and of no newer major version than the tests had."""
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    tested, fine = _tested(), []
    needed = _requirements()
    if not needed:
        yield Finding("warning", "versions", "triptych is not installed as a package", "pip install triptych")
    for name, specifier in needed.items():
        version = platform.python_version() if name == "python" else _installed(name)
        newest = tested.get(canonicalize_name(name))
        if version is None or not SpecifierSet(specifier).contains(version, prereleases=True):
            found = f"{version}; {specifier} is needed" if version else "not installed"
            to_do = f"install python {specifier}" if name == "python" else f"pip install '{name}{specifier}'"
            yield Finding("failure", name, found, to_do)
        elif newest and Version(version).major > Version(newest).major:
            to_do = f"if it misbehaves: pip install '{name}=={newest}'"
            yield Finding("warning", name, f"{version}; tested with {newest}", to_do)
        else:
            fine.append(f"{name} {version}")
    if fine:
        yield Finding("ok", "versions", ", ".join(fine))


def _requirements() -> dict[str, str]:
    """Name -> version specifier of Python and of what Triptych needs without extras; empty if it isn't installed."""
    from packaging.requirements import Requirement

    try:
        lines, python = metadata.requires(_DISTRIBUTION) or [], metadata.metadata(_DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return {}
    needed = [line for line in map(Requirement, lines) if line.marker is None or line.marker.evaluate({"extra": ""})]
    return {"python": python or "", **{line.name: str(line.specifier) for line in needed}}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tested() -> dict[str, str]:
    """Versions that the tests ran with: `constraints.txt`, in the package or in the checkout's root."""
    from packaging.utils import canonicalize_name

    package = Path(__file__).resolve().parents[1]
    for file in (package / "constraints.txt", package.parents[1] / "constraints.txt"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
            return {canonicalize_name(name.strip()): version.split(";")[0].strip() for name, version in pairs}
    return {}


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"triptych")
    except OSError as error:
        found = f"{folder} can't be written: {error.strerror}"
        return Finding("failure", "cache", found, "set TRIPTYCH_CACHE to a folder of yours")
    return Finding("ok", "cache", f"{folder} can be written")


def _disk(what: str, folder: Path) -> Finding:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free"
    if free >= _LITTLE_DISK:
        return Finding("ok", what, found)
    to_do = "free some room" + (", or set TRIPTYCH_CACHE to a folder on another disk" if "cache" in what else "")
    return Finding("failure" if free < _NO_DISK else "warning", what, found, to_do)


def _fonts() -> Finding:
    """Whether figures can show Chinese, Japanese and Korean, by the way figures choose their fonts."""
    from triptych.report.figures.fonts import families

    chosen, missing = families(_CJK.values())
    if not missing:
        return Finding("ok", "fonts", f"figures can show Chinese, Japanese and Korean ({', '.join(chosen[1:])})")
    without = [language for language, text in _CJK.items() if missing & set(text)]
    linux = sys.platform == "linux"
    install = "apt install fonts-noto-cjk, or your system's package" if linux else "install Noto Sans CJK"
    found = f"no font on this machine has {' or '.join(without)} characters: figures show boxes for them"
    return Finding("warning", "fonts", found, f"{install} (reports in HTML use the reader's fonts)")


def _bundled() -> Iterator[Finding]:
    for name, model in BUNDLED.items():
        if installed_parts(name) is None:
            yield Finding("warning", f"model {name}", "not installed", f"to try `--model {name}`: {model.install}")
        else:
            yield Finding("ok", f"model {name}", f"{model.title} is installed ({model.licence})")
