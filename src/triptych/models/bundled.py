"""The file of a bundled model, from its package.

A package is found without importing it, since its own code may need what is not installed. Its file is checked against
the SHA-256 that was published. A file in several parts is put together in the cache, once.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from triptych.config.bundled import BUNDLED, BundledModel
from triptych.errors import ModelError
from triptych.models.cache import cache_folder, sha256_of_large_file, writable_cache
from triptych.records.disk import disk_errors


def bundled_gguf(name: str) -> Path:
    """The GGUF file of a bundled model, whole and checked.

    Raises:
        ModelError: the package is missing, or its content isn't what was published.
    """
    model = BUNDLED[name]
    found = installed_parts(name)
    if found is None:
        raise ModelError(
            f"the bundled model `{name}` is not installed",
            expected=f"the package {model.package}",
            fix=f"{model.install}, or name another model with --model",
        )
    target = found[0] if len(found) == 1 else _joined(found, name, model)
    if (sha256 := sha256_of_large_file(target)) != model.sha256:
        if target not in found:
            target.unlink()
        raise ModelError(
            f"the bundled model `{name}` is not what was published",
            where=str(target),
            found=f"SHA-256 {sha256}",
            expected=f"SHA-256 {model.sha256}",
            fix=model.reinstall,
        )
    return target


def installed_parts(name: str) -> list[Path] | None:
    """The files of a bundled model's package, in order; None where one is missing. Nothing is imported."""
    found = []
    for module, file in BUNDLED[name].parts:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        places = list(spec.submodule_search_locations or []) if spec else []
        path = next((path for place in places if (path := Path(place) / file).is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found


def _joined(parts: list[Path], name: str, model: BundledModel) -> Path:
    """The parts as one file in the cache."""
    target = cache_folder() / name / model.file
    if target.exists():
        return target
    target = writable_cache() / name / model.file
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        with part.open("wb") as out:
            for chunk in parts:
                with chunk.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
        part.replace(target)
    return target
