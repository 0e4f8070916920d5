"""A model small enough that its answer is computable by hand, written as an ordinary model folder.

With `uniform=True` the output head is zero, so all logits are zero and every token costs exactly ln V nats, whatever
the prompt: perplexity V on any data. It goes through the same loading, attention and head as a real model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

Architecture = Literal["llama", "qwen3", "gemma3", "mistral", "gpt2"]

VOCABULARY = 259  # 256 bytes, BOS, EOS, PAD
_BOS, _EOS, _PAD = 256, 257, 258


def fake_config(architecture: Architecture = "llama", *, vocab_size: int = VOCABULARY, window: int = 8) -> Any:
    """A tiny configuration of a real architecture. `window` is the sliding window where the architecture has one."""
    import transformers as hf

    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "bos_token_id": _BOS,
        "eos_token_id": _EOS,
        "pad_token_id": _PAD,
        "tie_word_embeddings": False,
    }
    if architecture == "gpt2":
        return hf.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=4096, **common)
    common |= {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
    }
    if architecture == "gemma3":
        layers = ["sliding_attention", "sliding_attention", "full_attention"]
        return hf.Gemma3TextConfig(
            **common, sliding_window=window, layer_types=layers, query_pre_attn_scalar=8, final_logit_softcapping=5.0
        )
    if architecture == "mistral":
        return hf.MistralConfig(**common, sliding_window=window)
    return hf.Qwen3Config(**common) if architecture == "qwen3" else hf.LlamaConfig(**common)


def write_fake_model(
    folder: Path,
    architecture: Architecture = "llama",
    *,
    uniform: bool = False,
    seed: int = 0,
    window: int = 8,
    scale: float = 0.3,
) -> Path:
    """Write a tiny random (or uniform) model and its byte tokenizer as a model folder; returns the folder.

    `scale` is the standard deviation of the weights: large enough that logits differ and mistakes show.
    """
    from transformers import AutoModelForCausalLM

    config = fake_config(architecture, window=window)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=scale)
    if uniform:
        torch.nn.init.zeros_(model.get_output_embeddings().weight)
    model.save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    return folder


def _byte_tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<bos>", "<eos>", "<pad>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", model_max_length=4096
    )
