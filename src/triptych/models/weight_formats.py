"""Which files weights may be read from: safetensors and GGUF, recognized by content and not by name.

Both are lists of numbers with a header. Everything else (a pickle above all, which can run code when it is read) is
refused by name. The first bytes decide:

    safetensors   8 bytes: length of the header, then the header, a JSON object
    GGUF          the letters GGUF
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from triptych.errors import ModelError

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""How pickled weights are usually called."""
_LONGEST_HEADER = 100_000_000
"""Of a safetensors file, by its own specification."""
_MODEL = "the model's weights"
_ALLOW = "or, if you trust whoever made them, --allow-pickle (model.allow_pickle)"


_COPY_AGAIN = "copy or download it again"


class _Kind(NamedTuple):
    start: bytes
    says: str
    pickled: bool = False
    fix: str = _COPY_AGAIN


_OTHERS = (
    _Kind(b"PK\x03\x04", "a zip archive, as torch.save writes pickles", pickled=True),
    _Kind(b"\x80", "a pickle", pickled=True),
    _Kind(b"version https://git-lfs", "a Git LFS pointer", fix="fetch the file itself: `git lfs pull`"),
    _Kind(b"<", "HTML or XML"),
    _Kind(b"GGUF", "a GGUF file", fix="name it *.gguf"),
    _Kind(b"", "other content"),
)


def require_safetensors(path: Path, *, what: str = _MODEL) -> None:
    """Refuse a file that is called safetensors and is something else. A missing file is left to the reader."""
    start, size = _start(path)
    if size is None or _is_safetensors(start, size):
        return
    kind, problem = _kind_of(start), "the model can't be loaded" if what == _MODEL else f"{what} can't be read"
    if kind.pickled:
        raise _pickled(what, f"{path.name}, which is {kind.says}", str(path), _save_anew(what))
    raise ModelError(
        f"{problem}: a weights file is cut short, or is no safetensors file",
        where=str(path),
        found=f"{kind.says}, {size:,} bytes",
        expected="a safetensors file",
        fix=kind.fix,
    )


def require_gguf(path: Path) -> None:
    """Refuse a file that is called GGUF and is something else."""
    start, size = _start(path)
    if size is None or start.startswith(b"GGUF"):
        return
    kind = _kind_of(start)
    found = "a safetensors file" if _is_safetensors(start, size) else kind.says
    raise ModelError(
        "this GGUF file can't be read as a causal language model: it is no GGUF file",
        where=str(path),
        found=f"{found}, {size:,} bytes",
        expected="a file that begins with the letters GGUF",
        fix=f"{_COPY_AGAIN}, or give the model's folder" if kind.pickled or kind is _OTHERS[-1] else kind.fix,
    )


def refuse_pickles(files: Mapping[str, Path], *, where: str, allow_pickle: bool) -> None:
    """Refuse weight files (name -> file) whose name or content is not safetensors, before any of them is read.

    With `allow_pickle`, files of other names are the user's own risk. `where` is the model as the user gave it.
    """
    others = sorted(name for name in files if not name.endswith(".safetensors"))
    if others and not allow_pickle:
        raise _pickled(_MODEL, ", ".join(others[:4]), where, f"{_save_anew('model')}; {_ALLOW}")
    for name, path in files.items():
        if name.endswith(".safetensors"):
            require_safetensors(path)


def refuse_code_and_pickles(folder: Path, *, where: str) -> None:
    """Refuse the folder of a sentence-transformers model that would run Python code of its own, or read pickles.

    That library imports the classes that `modules.json` names, from files of the folder if they are there.
    """
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        named = {str(module["type"]): str(module.get("path", "")) for module in modules}
    except FileNotFoundError:
        named = {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "the embedding model's modules can't be read", where=where, found=f"modules.json: {error}"
        ) from error
    if code := [name for name in named if not name.startswith("sentence_transformers.")]:
        raise ModelError(
            "the embedding model brings Python code of its own, which Triptych does not run",
            where=where,
            found=f"{code[0]} in modules.json",
            expected="modules of sentence_transformers alone",
            fix="use another embedding model, or `model`: the hidden states of the model itself",
        )
    for place in dict.fromkeys([folder, *(folder / path for path in named.values())]):
        weights = sorted(place.glob("*.safetensors"))
        pickled = [path.name for path in sorted(place.glob("*")) if path.suffix in PICKLED]
        if pickled and not weights:
            raise _pickled("the embedding model's weights", ", ".join(pickled[:4]), str(place), _save_anew("model"))
        for path in weights:
            require_safetensors(path, what="the embedding model's weights")


def _pickled(what: str, found: str, where: str, fix: str) -> ModelError:
    problem = f"{what} are pickled, and a pickle can run code when it is read"
    return ModelError(problem, where=where, found=found, expected="*.safetensors", fix=fix)


def _save_anew(what: str) -> str:
    owner = "adapter" if "adapter" in what else "model"
    return f"save the {owner} as safetensors (save_pretrained of a current transformers or peft does)"


def _is_safetensors(start: bytes, size: int) -> bool:
    if len(start) < 9:
        return False
    (header,) = struct.unpack("<Q", start[:8])
    return header <= min(_LONGEST_HEADER, size - 8) and start[8:9] == b"{"


def _kind_of(start: bytes) -> _Kind:
    return next(kind for kind in _OTHERS if start.startswith(kind.start))


def _start(path: Path) -> tuple[bytes, int | None]:
    """The file's first bytes and its size; None for a file that is not there or can't be opened."""
    try:
        with path.open("rb") as file:
            return file.read(32), path.stat().st_size
    except OSError:
        return b"", None
