"""Generation through `model.generate`: beams, and everything for models that can't be decoded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from triptych.generate.choose import seed_of
from triptych.generate.settings import GenerationSettings, Prompt
from triptych.models import LoadedModel
from triptych.models.rope import reset_rope


def hf_generate(
    loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int, settings: GenerationSettings
) -> list[list[int]]:
    """New tokens of some prompts that end with the same stop tokens, padded on the left to one length.

    What a model's `generation_config.json` asks for (drawing, penalties) is not used: the settings say all there is.
    """
    from transformers import GenerationConfig

    tokenizer, stop_ids = loaded.profile.tokenizer, prompts[0].stop_ids
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else loaded.profile.eos_id
    drawing = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=settings.temperature > 0,
        num_beams=settings.beams,
        eos_token_id=list(stop_ids),
        pad_token_id=pad,
        no_repeat_ngram_size=settings.no_repeat_ngram,
        **(drawing if settings.temperature else {}),
    )
    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=loaded.device)
    lengths = torch.tensor([len(p.ids) for p in prompts], device=loaded.device)
    mask = (torch.arange(longest, device=loaded.device)[None] >= longest - lengths[:, None]).long()
    reset_rope(loaded.model)
    with _no_defaults(loaded.model), torch.random.fork_rng(devices=_cuda(loaded)):
        if settings.temperature:  # one row at a time: its draws are its own
            torch.manual_seed(seed_of(settings.seed, prompts[0].row_id))
        out = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [_until_stop(row, frozenset(stop_ids)) for row in out[:, longest:].tolist()]


def _until_stop(row: list[int], stop_ids: frozenset[int]) -> list[int]:
    """A row without the padding behind its end."""
    end = next((at + 1 for at, token in enumerate(row) if token in stop_ids), len(row))
    return row[:end]


def _cuda(loaded: LoadedModel) -> list[torch.device]:
    return [loaded.device] if loaded.device.type == "cuda" else []


@contextmanager
def _no_defaults(model: Any) -> Iterator[None]:
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
