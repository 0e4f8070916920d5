"""Tiny random models of the families in `architectures.yaml`, with one small tokenizer for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["FAMILIES", "config_of", "write_model"]

VOCABULARY = 384
_IDS = {"bos_token_id": VOCABULARY - 3, "eos_token_id": VOCABULARY - 2, "pad_token_id": VOCABULARY - 1}
_COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, **_IDS, "tie_word_embeddings": False}
_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
_TEXT = (
    "the quick brown fox jumps over the lazy dog. translate this sentence into another style, please answer in words. "
    "USER: what is a model of numbers ASSISTANT: a model of numbers is a thing that counts. "
) * 20

FAMILIES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "architectures.yaml").read_text(encoding="utf-8")
)


def config_of(name: str) -> Any:
    """The transformers configuration of a family's variant."""
    from transformers import AutoConfig

    settings = dict(FAMILIES[name])
    family, without = settings.pop("family"), settings.pop("without", ())
    sizes = {} if settings.pop("names", "llama") == "own" else _LLAMA
    given = {name: value for name, value in {**_COMMON, **sizes, **settings}.items() if name not in without}
    if family == "gemma3":  # text and images
        return AutoConfig.for_model(family, text_config=given, vision_config=_VISION, **_IDS, **_IMAGES)
    return AutoConfig.for_model(family, **given)


_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_IMAGES = {"mm_tokens_per_image": 4, "boi_token_index": 1, "eoi_token_index": 2, "image_token_index": 3}


def write_model(name: str, folder: Path, **changes: Any) -> Path:
    """A model's folder, weights drawn so large that every part of the model tells in its output.

    Args:
        name: of a variant.
        folder: where to.
        changes: settings that differ from the variant's.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(name)
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    for key, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        if parameter.ndim > 1:
            parameter.data = noise
        elif "A_log" not in key and "dt_bias" not in key:
            parameter.data = parameter.data + noise
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 3, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_TEXT], trainer)
    filler = [f"<x{i}>" for i in range(VOCABULARY - 3 - tokenizer.get_vocab_size())]
    tokenizer.add_special_tokens([*filler, "<s>", "</s>", "<pad>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=4096
    )
