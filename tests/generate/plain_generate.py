"""Prompts for tiny models, and what `model.generate` makes of each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triptych.prompts import RenderedPrompt

if TYPE_CHECKING:
    from triptych.models import LoadedModel

PREAMBLE = "古文今譯，請看範例。"  # 30 bytes: longer than the fakes' sliding window of 8
WORDS = ["春眠", "不覺曉，", "處處", "聞啼鳥。", "夜來", "風雨聲，", "花落", "知多少？", "xy", "z "]


def prompt_of(row_id: str, ids: tuple[int, ...], stop_ids: tuple[int, ...] = (257,)) -> RenderedPrompt:
    """A prompt by its tokens."""
    return RenderedPrompt(row_id, ids, stop_ids=stop_ids)


def made_prompts(
    loaded: LoadedModel, n: int, *, preamble: str = PREAMBLE, stop_ids: tuple[int, ...] = (257,)
) -> list[RenderedPrompt]:
    """Prompts of unlike lengths behind one preamble."""
    texts = ["".join(WORDS[(i * 3 + j) % 10] for j in range(1 + i % 5)) + str(i) for i in range(n)]
    start = [] if loaded.profile.bos_id is None else [loaded.profile.bos_id]
    return [
        prompt_of(f"row-{i}", (*start, *loaded.profile.encode(preamble + text)), stop_ids)
        for i, text in enumerate(texts)
    ]


def one_by_one(loaded: LoadedModel, prompts: Sequence[RenderedPrompt], **config: Any) -> list[list[int]]:
    """The reference: transformers' own generate, a row at a time."""
    import torch
    from transformers import GenerationConfig

    found = []
    for prompt in prompts:
        options = {"do_sample": False, "eos_token_id": list(prompt.stop_ids), "pad_token_id": 258, **config}
        ids = torch.tensor([prompt.ids])
        out = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=GenerationConfig(**options)
        )
        found.append(out[0, len(prompt.ids) :].tolist())
    return found
