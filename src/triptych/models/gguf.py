"""GGUF files, those of the bundled models among them: made into plain model folders in the cache, once.

    gguf_header   config.json and the tokenizer, from the metadata at the file's beginning. Reading 262,144 tokens out
                  of it takes half a minute
    unpack_gguf   the same with weights, dequantized; another half minute for `demo`

Every later load takes a second. The weights are rounded to bfloat16 once, at unpacking, so that a float32 run and a
bfloat16 run of the same file start from the same numbers.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

from triptych.errors import DiskError, ModelError
from triptych.models.cache import cache_folder, file_state, sha256_of_large_file, writable_cache
from triptych.models.library_errors import NO_CODE
from triptych.models.tokenizer import save_as_it_is
from triptych.models.weight_formats import require_gguf
from triptych.records.disk import disk_errors
from triptych.records.store import write_json

logger = logging.getLogger(__name__)

_FORMAT = 1  # raised when what is written to the cache changes
_HEADER_FORMAT = 2  # of the folders without weights. 2: the tokenizer as it is in tokenizer.json
_MARK = "triptych.json"  # written last: the folder is whole
_ROOM = 5  # bfloat16 weights take up to this many times the file's size


def is_unpacked(sha256: str) -> bool:
    """Whether the GGUF file of this hash was dequantized into the cache before."""
    return _is_made(cache_folder() / _unpacked_name(sha256))


def gguf_header(path: Path) -> Path:
    """A folder with the configuration and the tokenizer of a GGUF file, made once. The weights are not read.

    Raises:
        ModelError: it is no GGUF file, or transformers can't read it.
    """

    def read(folder: Path) -> None:
        from transformers import AutoConfig, AutoTokenizer

        logger.warning("first use of %s: reading its tokenizer once (some ten seconds)", path.name)
        with _reading(path):
            config, tokenizer = (
                kind.from_pretrained(path.parent, gguf_file=path.name, **NO_CODE)
                for kind in (AutoConfig, AutoTokenizer)
            )
            config.save_pretrained(folder)
            save_as_it_is(tokenizer, folder)

    real = path.resolve()
    key = hashlib.sha256(f"{real}:{file_state(real)}".encode()).hexdigest()[:16]
    return _made_once(f"header-{key}-v{_HEADER_FORMAT}", path, read, {})


def unpack_gguf(path: Path) -> Path:
    """A folder with the model and tokenizer of a GGUF file as transformers saves them, made once.

    Raises:
        ModelError: it is no GGUF file, or transformers can't read it.
        DiskError: no room in the cache.
    """
    sha256 = sha256_of_large_file(path)
    name = _unpacked_name(sha256)
    if not _is_made(cache_folder() / name):
        folder, needed = writable_cache(), path.stat().st_size * _ROOM
        if (free := shutil.disk_usage(folder).free) < needed:
            raise DiskError(
                "there is no room to unpack the model",
                where=str(folder),
                found=f"{free / 1e9:.1f} GB free",
                expected=f"{needed / 1e9:.1f} GB",
                fix="free some room, or set TRIPTYCH_CACHE to a folder on another disk",
            )
    return _made_once(name, path, lambda folder: _dequantize(path, folder), {"gguf": path.name, "gguf_sha256": sha256})


def _unpacked_name(sha256: str) -> str:
    return f"gguf-{sha256[:16]}-v{_FORMAT}"


def _is_made(folder: Path) -> bool:
    return (folder / _MARK).exists()


def _made_once(name: str, path: Path, make: Callable[[Path], None], facts: dict[str, Any]) -> Path:
    """The cache's folder of this name, filled by `make` where it is missing: whole or not at all."""
    if _is_made(cache_folder() / name):
        return cache_folder() / name
    target = writable_cache() / name
    require_gguf(path)
    work = Path(tempfile.mkdtemp(prefix=name + ".", dir=target.parent))
    try:
        with disk_errors(target):
            make(work)
            write_json(work / _MARK, {**facts, "format": _FORMAT})
            if not target.exists():
                work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _dequantize(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    header = gguf_header(path)
    logger.warning("first use of %s: unpacking it once (about a minute for a small model)", path.name)
    with _reading(path):
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
            **NO_CODE,
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    for file in header.iterdir():
        if file.name not in (_MARK, "config.json"):  # the tokenizer's
            shutil.copy(file, folder)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Read through transformers: without its progress bars, which it draws in logs too, and errors as a ModelError.

    transformers parses the file again for each part that it reads, 7 s each time where the vocabulary is large; here it
    gets the same reader.
    """
    import gguf
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    reader = gguf.GGUFReader
    gguf.GGUFReader = cache(reader)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    except (OSError, ValueError, LookupError, NotImplementedError, struct.error) as error:
        raise ModelError(
            "this GGUF file can't be read as a causal language model",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix="check the file is whole and of an architecture that transformers reads from GGUF",
        ) from error
    finally:
        gguf.GGUFReader = reader
