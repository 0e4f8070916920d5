"""Small tokenizers of four families, each with a short chat template in the family's manner, made for these tests."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "<|im_start|>assistant\n{{ m['content'].split('</think>')[-1] }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (  # as Qwen3: an answered conversation has an empty thought before its answer
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}\n\n{% endif %}{% endfor %}"
)
PLAIN_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

TEMPLATES = {
    "llama3": LLAMA3,
    "chatml": CHATML,
    "thinking": THINKING,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "plain_end": PLAIN_END,
}
_SPECIAL = {
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"],
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "thinking": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "mistral": ["<s>", "</s>"],
    "plain_end": ["<s>", "</s>"],
}
_ENDS = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "chatml": (None, "<|im_end|>"),
    "thinking": (None, "<|im_end|>"),
    "gemma": ("<bos>", "<eos>"),
    "mistral": ("<s>", "</s>"),
    "plain_end": ("<s>", "</s>"),
}
_PLAIN_ADDED = {"chatml": ["<think>", "</think>"], "thinking": ["<think>", "</think>"], "gemma": ["\n\n"]}


def chat_tokenizer(family: str) -> Any:
    """A tokenizer with the family's kind of pipeline, special tokens and template."""
    tokenizer = (
        _metaspace() if family in ("mistral", "plain_end") else _normalizing() if family == "gemma" else _bytes()
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in _SPECIAL[family]])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in _PLAIN_ADDED.get(family, [])])
    bos, eos = _ENDS[family]
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    made.chat_template = TEMPLATES[family]
    return made


def _bytes() -> Tokenizer:
    """Bytes, with a few merges: line breaks double up, as they do in real vocabularies."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("t", "h"), ("th", "e"), ("i", "n"), ("<", "|")]
    words = alphabet + ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces(special: list[str]) -> Tokenizer:
    """Letters with byte fallback, the special tokens inside the vocabulary, as sentencepiece models have them."""
    letters = [chr(c) for c in range(33, 127)] + ["▁", "\n", "天", "文"]
    merges = [("▁", "t"), ("t", "h"), ("▁", "["), ("▁", "▁"), ("s", ">"), ("\n", "\n")]
    words = [*special, *(f"<0x{i:02X}>" for i in range(256)), *letters, *("".join(pair) for pair in merges)]
    return Tokenizer(
        models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges, byte_fallback=True, fuse_unk=True)
    )


def _metaspace() -> Tokenizer:
    tokenizer = _pieces(["<unk>", "<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = _from_pieces()
    return tokenizer


def _normalizing() -> Tokenizer:
    tokenizer = _pieces(["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = _from_pieces()
    return tokenizer


def _from_pieces() -> Any:
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
