"""`triptych doctor`: whether this machine can do what Triptych needs, each line with what to do about it.

What needs torch is in `models.doctor`; here is the rest: versions, disk, fonts, the cache, the hub, extras.
"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from triptych.doctor.device import Finding, device_findings
from triptych.models.cache import cache_folder

__all__ = ["Finding", "diagnose"]

_DISTRIBUTION = "triptych"
_LITTLE_DISK, _NO_DISK = 5 << 30, 500 << 20
_PATIENCE = 3.0  # seconds for the hub to answer
_CJK = {"Chinese": "語說们", "Japanese": "かなカ", "Korean": "한글"}


def diagnose() -> Iterator[Finding]:
    """All findings, one after another as they are made."""
    hub = _Hub()  # asked meanwhile
    yield _python()
    yield from device_findings()
    yield from _versions()
    yield from _extras()
    yield _cache()
    for what, folder in (("disk, cache", cache_folder()), ("disk, here", Path.cwd())):
        yield _disk(what, folder)
    yield _fonts()
    yield hub.finding()


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.python_implementation()}) on {platform.platform(terse=True)}"
    try:
        asked = metadata.metadata(_DISTRIBUTION)["Requires-Python"]
    except (metadata.PackageNotFoundError, KeyError):
        asked = ""
    return _fits("python", found, platform.python_version(), asked or "")


def _fits(what: str, found: str, version: str, asked: str) -> Finding:
    from packaging.specifiers import SpecifierSet

    if asked and not SpecifierSet(asked).contains(version, prereleases=True):
        return Finding("failure", what, f"{found}; {asked} is needed", f"install {what} {asked}")
    return Finding("ok", what, found)


def _versions() -> Iterator[Finding]:
    """What Triptych depends on: there, not older than it needs, and no newer major version than it was tested with."""
    from packaging.version import Version

    tested = _tested()
    needed = list(_requirements(None))
    if not needed:
        yield Finding("warning", "versions", "triptych is not installed as a package", "pip install triptych")
    fine = []
    for name, asked in needed:
        version = _installed(name)
        if version is None:
            yield Finding("failure", name, "not installed", f"pip install '{name}{asked}'")
            continue
        finding = _fits(name, version, version, asked)
        if finding.status != "ok":
            yield Finding("failure", name, finding.found, f"pip install '{name}{asked}'")
        elif (known := tested.get(_normal(name))) and Version(version).major > Version(known).major:
            yield Finding(
                "warning", name, f"{version}; tested with {known}", f"if it misbehaves: pip install '{name}=={known}'"
            )
        else:
            fine.append(f"{name} {version}")
    if fine:
        yield Finding("ok", "versions", ", ".join(fine))


def _extras() -> Iterator[Finding]:
    """Optional parts: missing is no failure."""
    try:
        names = metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return
    for extra in names:
        if extra == "dev":
            continue
        missing = [name for name, _ in _requirements(extra) if _installed(name) is None]
        if missing:
            yield Finding(
                "warning",
                f"extra {extra}",
                f"not installed: {', '.join(missing)}",
                f"only if you want it: pip install 'triptych[{extra}]'",
            )
        else:
            yield Finding("ok", f"extra {extra}", "installed")


def _requirements(extra: str | None) -> Iterator[tuple[str, str]]:
    """(name, version specifier) of what is needed always (None), or only for an extra."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        wanted = always if extra is None else not always and requirement.marker.evaluate({"extra": extra})  # type: ignore[union-attr]
        if wanted:
            yield requirement.name, str(requirement.specifier)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tested() -> dict[str, str]:
    """Versions that the tests ran with: `constraints.txt`, shipped in the package or lying in the checkout's root."""
    package = Path(__file__).resolve().parents[1]
    for file in (package / "constraints.txt", package.parents[1] / "constraints.txt"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
            return {_normal(name): version.split(";")[0].strip() for name, version in pairs}
    return {}


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"triptych")
    except OSError as error:
        return Finding(
            "failure",
            "cache",
            f"{folder} can't be written: {error.strerror}",
            "set TRIPTYCH_CACHE to a folder of yours",
        )
    return Finding("ok", "cache", f"{folder} can be written")


def _disk(what: str, folder: Path) -> Finding:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free"
    to_do = "free some room" + (", or set TRIPTYCH_CACHE to a folder on another disk" if "cache" in what else "")
    if free < _NO_DISK:
        return Finding("failure", what, found, to_do)
    return Finding("warning" if free < _LITTLE_DISK else "ok", what, found, to_do if free < _LITTLE_DISK else "")


def _fonts() -> Finding:
    """Whether figures can show Chinese, Japanese and Korean, by the way figures choose their fonts."""
    from triptych.report.figures.fonts import families

    chosen, missing = families(_CJK.values())
    if not missing:
        return Finding("ok", "fonts", f"figures can show Chinese, Japanese and Korean ({', '.join(chosen[1:])})")
    without = [language for language, text in _CJK.items() if missing & set(text)]
    install = (
        "apt install fonts-noto-cjk, or your system's like" if sys.platform == "linux" else "install Noto Sans CJK"
    )
    found = f"no font on this machine has {' or '.join(without)} characters: figures show boxes for them"
    return Finding("warning", "fonts", found, f"{install} (reports in HTML use the reader's fonts)")


class _Hub:
    """Whether the hub can be reached: said, and never a failure, since models can be folders."""

    def __init__(self) -> None:
        from huggingface_hub import constants

        self.endpoint, self.offline = constants.ENDPOINT, constants.HF_HUB_OFFLINE
        self.answered = False
        self.asking = threading.Thread(target=self._ask, daemon=True)
        if not self.offline:
            self.asking.start()

    def finding(self) -> Finding:
        """Waits for the answer, a few seconds at most."""
        if self.offline:
            return Finding("ok", "hub", "HF_HUB_OFFLINE is set: only what is in the hub's cache is used")
        self.asking.join(_PATIENCE)
        if self.answered:
            return Finding("ok", "hub", f"{self.endpoint} answers")
        return Finding(
            "warning",
            "hub",
            f"{self.endpoint} can't be reached",
            "only matters for models and data named by hub id that are not in the hub's cache yet",
        )

    def _ask(self) -> None:
        import urllib.error
        import urllib.request

        try:
            request = urllib.request.Request(self.endpoint, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PATIENCE):
                self.answered = True
        except urllib.error.HTTPError:  # it answered
            self.answered = True
        except (OSError, ValueError):
            return
