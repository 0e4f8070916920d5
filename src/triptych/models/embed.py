"""Embeddings of instructions, for choosing demonstrations: the model's own hidden states, or sentence-transformers.

The model's own: the mean of its last hidden state (after the final norm) over the instruction's tokens, BOS seen but
not counted, adapter off, averaged in float32. Vectors are kept in the user's cache under a hash of what they depend on
(the weights, how they are stored, and the text), so a text is embedded once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.errors import DataError, ModelError
from triptych.models.adapter_tensors import sha256_of_tensors
from triptych.models.adapters import adapter_is_on
from triptych.models.cache import ArrayCache, cache_folder
from triptych.models.library_errors import reason_of
from triptych.models.load import LoadedModel
from triptych.models.quantize import computes_in_int8
from triptych.models.rope import reset_rope
from triptych.models.weight_formats import refuse_code_and_pickles
from triptych.progress import Reporter, Silent
from triptych.records.disk import at_home, is_there
from triptych.records.provenance import library_versions

Vector = np.ndarray[Any, np.dtype[np.float32]]
Batch = list[tuple[str, Vector]]

_TOKENS_AT_ONCE = 2048
_TEXTS_AT_ONCE = 256
_FORMAT = 1  # raised when vectors of the same text and weights change


def embed_texts(
    texts: Sequence[str], *, model: LoadedModel | str, reporter: Reporter | None = None
) -> dict[str, Vector]:
    """Embed texts: text -> vector (d,), float32.

    Args:
        texts: instructions; repeated ones are embedded once.
        model: the model itself, its adapter disabled by the caller; or the name or path of a sentence-transformers
            model.
        reporter: progress is reported to it.

    Raises:
        ModelError: the embedding model, or the library for it, isn't there.
        DataError: a text has no tokens, or more than the model takes.
    """
    if isinstance(model, str):
        return _embed_by_name(texts, model, reporter)
    if adapter_is_on(model.model):
        raise ValueError("embedding is the base model's: switch the adapter off")
    facts = {
        "weights": model.weights_sha256,
        "tokenizer": model.profile.sha256,
        "dtype": str(model.dtype),
        "device": model.device.type,
        **{key: model.info.get(key) for key in ("config_sha256", "quantize", "double_quant", "weights_held")},
        "versions": library_versions(),
    }
    return _cached(texts, facts, lambda missing: _hidden_means(missing, model), reporter)


def _embed_by_name(texts: Sequence[str], name: str, reporter: Reporter | None) -> dict[str, Vector]:
    try:
        import sentence_transformers as library
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelError(
            "the library for embedding models is not installed",
            where=f"embedding model {name!r}",
            fix="pip install sentence-transformers, or use `model`: the hidden states of the model itself",
        ) from error
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    folder = Path(at_home(name))
    is_folder = is_there(folder, Path.is_dir)
    if looks_like_path and not is_folder:
        raise _no_such_model(name, "no such folder")
    if is_folder:  # the library, too, takes a folder of this name before the hub's model
        refuse_code_and_pickles(folder, where=f"embedding model {name!r}")
    only = {"trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    try:
        model = SentenceTransformer(str(folder) if looks_like_path else name, **only)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise _no_such_model(name, reason_of(error)) from error
    facts = {
        "sentence_transformers": name,
        "parameters": sha256_of_tensors(dict(sorted(model.state_dict().items()))),  # a name may come to mean others
        "modules": str(model) if isinstance(model, torch.nn.Module) else None,  # pooling, normalization, longest text
        "versions": {**library_versions(), "sentence-transformers": getattr(library, "__version__", None)},
    }

    def vectors(missing: list[str]) -> Iterator[Batch]:
        for start in range(0, len(missing), _TEXTS_AT_ONCE):
            some = missing[start : start + _TEXTS_AT_ONCE]
            made = model.encode(some, convert_to_numpy=True, show_progress_bar=False)
            yield list(zip(some, np.asarray(made, dtype=np.float32), strict=True))

    return _cached(texts, facts, vectors, reporter)


def _hidden_means(texts: list[str], loaded: LoadedModel) -> Iterator[Batch]:
    profile, device = loaded.profile, loaded.device
    start = [] if profile.bos_id is None else [profile.bos_id]
    ids = [(text, [*start, *profile.encode(text)]) for text in texts]
    for text, own in ids:
        if len(own) == len(start) or len(own) > (loaded.max_tokens or len(own)):
            raise DataError(
                "an instruction can't be embedded",
                where=repr(text if len(text) <= 40 else text[:39] + "…"),
                found=f"{len(own) - len(start)} tokens",
                expected=f"1 to {loaded.max_tokens}" if loaded.max_tokens else "at least 1",
                fix="choose demonstrations by another strategy, or correct the row",
            )
    backbone = loaded.model.base_model  # without its head, which would make a vocabulary's row for every token
    if backbone is loaded.model:
        raise ModelError(
            "the model's hidden states can't be had without its output head",
            found=type(backbone).__name__,
            fix="choose demonstrations by bm25, or name a sentence-transformers model",
        )
    # what depends on the longest row of a batch, or on all of them, is computed a row at a time
    together = 0 if computes_in_int8(loaded.model) else loaded.rope_limit
    for batch in _batches(ids, together):
        reset_rope(loaded.model)
        lengths = torch.tensor([len(own) for _, own in batch], device=device)
        width = int(lengths.max())
        # padded on the right, where no token of the text looks
        tokens = torch.tensor([own + [profile.eos_id] * (width - len(own)) for _, own in batch], device=device)
        positions = torch.arange(width, device=device)[None]
        seen = positions < lengths[:, None]
        with torch.inference_mode():
            hidden = backbone(input_ids=tokens, attention_mask=seen.long(), use_cache=False).last_hidden_state.float()
        counted = (seen & (positions >= len(start)))[..., None]
        means = (hidden * counted).sum(1) / counted.sum(1)
        yield list(zip((text for text, _ in batch), means.cpu().numpy(), strict=True))


def _batches(
    ids: Sequence[tuple[str, list[int]]], together: int | None = None
) -> Iterator[list[tuple[str, list[int]]]]:
    """Texts, shortest first, in batches of at most `_TOKENS_AT_ONCE` tokens, padding included.

    Texts of more than `together` tokens are a batch each.
    """
    batch: list[tuple[str, list[int]]] = []
    for entry in sorted(ids, key=lambda entry: len(entry[1])):
        alone = together is not None and len(entry[1]) > together
        if batch and (alone or len(entry[1]) * (len(batch) + 1) > _TOKENS_AT_ONCE):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _no_such_model(name: str, found: str) -> ModelError:
    return ModelError(
        "the embedding model can't be loaded",
        where=f"embedding model {name!r}",
        found=found,
        expected="`model`, a hub id that can be reached, or the folder of a sentence-transformers model",
        fix="check the name; without a network, give a folder, or use `model`: the hidden states of the model itself",
    )


def _cached(
    texts: Sequence[str],
    facts: dict[str, Any],
    make: Callable[[list[str]], Iterator[Batch]],
    reporter: Reporter | None,
) -> dict[str, Vector]:
    """Vectors from the cache; those that it lacks are computed and stored batch by batch."""
    reporter = reporter or Silent()
    state = json.dumps({**facts, "format": _FORMAT}, sort_keys=True, default=str)
    keys = {text: hashlib.sha256(f"{state}\n{text}".encode()).digest() for text in texts}
    with closing(ArrayCache(cache_folder() / "embeddings.sqlite", "vector")) as cache:
        arrays = zip(keys, cache.get(list(keys.values())), strict=True)
        vectors = {text: array for text, array in arrays if array is not None}
        if len({len(vector) for vector in vectors.values()}) > 1:
            vectors = {}  # of one model all have one length
        missing = [text for text in keys if text not in vectors]
        if missing:
            with reporter.task("embedding", len(keys), done=len(vectors)) as advance:
                for batch in make(missing):
                    if vectors and batch and len(batch[0][1]) != len(next(iter(vectors.values()))):
                        # the cache's vectors are not this model's
                        return {text: vector for again in make(list(keys)) for text, vector in again}
                    cache.put([(keys[text], vector) for text, vector in batch])
                    vectors.update(batch)
                    advance(len(batch))
    return {text: vectors[text] for text in keys}
