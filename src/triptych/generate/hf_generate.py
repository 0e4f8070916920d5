"""Generation through `model.generate`: beams, and everything for models that can't be decoded together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from triptych.generate.choose import seed_of
from triptych.generate.settings import GenerationSettings
from triptych.models import LoadedModel
from triptych.models.rope import reset_rope
from triptych.prompts import RenderedPrompt


def hf_generate(
    loaded: LoadedModel, prompts: Sequence[RenderedPrompt], max_new_tokens: int, settings: GenerationSettings
) -> list[list[int]]:
    """New tokens of some prompts that end with the same stop tokens, padded on the left to one length.

    Behind a stop token there may be padding. What a model's `generation_config.json` asks for (drawing, penalties) is
    not used, only the settings.
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
    defaults, loaded.model.generation_config = loaded.model.generation_config, GenerationConfig()
    try:
        with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
            if settings.temperature:  # one row at a time: its draws are its own
                torch.manual_seed(seed_of(settings.seed, prompts[0].row_id))
            out = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    finally:
        loaded.model.generation_config = defaults
    rows: list[list[int]] = out[:, longest:].tolist()
    return rows
