"""Where a number was made: versions, machine, code."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from triptych.version import __version__

_COMPUTES = ("torch", "transformers", "peft", "bitsandbytes")
_PACKAGES = (*_COMPUTES, "tokenizers", "safetensors", "gguf", "numpy", "scipy")


def library_versions() -> dict[str, str]:
    """Versions of what computes a number, Triptych's own included."""
    return {"triptych": __version__, **_installed(_COMPUTES)}


def provenance() -> dict[str, Any]:
    """Facts about this process and machine. Names no user and no folder but those on the command line."""
    return {
        "triptych": __version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": _installed(_PACKAGES),
        "platform": platform.platform(),
        "processor": processor(),
        "accelerator": _accelerator(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def peak_memory() -> int | None:
    """Most bytes this process held in main memory so far; None where the system doesn't say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    return {name: version for name in names if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _accelerator() -> str | None:
    """The GPU's name and its CUDA, where torch was loaded and sees one. Nothing here loads torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _git() -> str | None:
    """Commit of the checkout this code runs from, with `+changes` where it differs; None for an installed copy."""
    here = Path(__file__).parent

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if ask("ls-files", "--error-unmatch", Path(__file__).name) is None:  # a checkout of something else around us
        return None
    commit = ask("rev-parse", "HEAD")
    return commit and commit + ("+changes" if ask("status", "--porcelain", "--untracked-files=no") else "")
