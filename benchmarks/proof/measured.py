"""What the proof computes in its own process: token ids of whole grids, and numbers of tiny models."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import where

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_ROWS, TRAIN_ROWS, PROMPT_ROWS = 40, 60, 8
Entries = Iterator[tuple[str, Any]]
"""Name and value: a hash or an exact number as text, or a document (a mapping or a list) that is compared by keys."""

PIECES = ["春眠", "不覺曉，", "處處", "聞啼鳥。", "夜來", "風雨聲，", "花落", "知多少？", "xy", "z "]
TEMPLATES = [
    "古文今譯。USER: {instruction} ASSISTANT:",
    "古文今譯。USER: {instruction} ASSISTANT:",
    "古文今譯，請看範例。第1個例子，USER: 春 ASSISTANT: 夏。USER: {instruction} ASSISTANT:",
]
"""Two beginnings, the first shared by two thirds of the rows: a tree of shared prefixes."""

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

COMPOSED = """
name: composed
model: {name: MODEL}
data:
  dir: sample
  train_rows: 120
  dev_rows: 12
  derive: {kind: {ask: ["？", "吗", "何"], tell: ["。"]}}
prompts:
  mine: "Q: {instruction} A:"
  parts:
    preamble: "譯。"
    zero_shot: "{preamble}{instruction}="
    few_shot: {head: "{preamble}{k}:", demo: "{i}.{instruction}={output};", tail: "{instruction}="}
max_tokens: 600
strategies:
  zero_shot: {prompts: [default, emotional, mine, parts]}
  few_shot:
    prompts: [default, parts]
    k: [1, 3]
    seeds: [0, 1]
    draw: [item, seed]
    select: [random, same, bm25, embedding, mmr, longest, shortest, similar-length]
    order: [nearest-last, nearest-first, random]
  qlora:
    seeds: [0, 1]
    trained_k: [0, 2]
    trained_select: bm25
    score:
      - prompts: [emotional, mine]
      - {k: [2], seeds: [0, 1], draw: [item, seed]}
      - {prompts: parts, k: [1, 2], select: [bm25, mmr, random]}
  search: {prompts: [default, parts], k: [0, 2], select: [random, bm25]}
  demos: {column: kind, max_similarity: 0.6, mmr_lambda: 0.4}
tune: {max_tokens: 540}
"""

CATALOGUE = """
name: catalogue
model: {name: MODEL}
data: {dir: sample, test_rows: 10}
max_tokens: 4096
strategies:
  zero_shot: {prompts: PROMPTS}
  few_shot: {prompts: PROMPTS, k: [2], seeds: [3]}
  qlora: {prompt: chat, score: [{prompts: PROMPTS, k: [1], seeds: [5]}]}
"""


def sha256_of(value: Any) -> str:
    """Of bytes, or of anything JSON can hold."""
    if not isinstance(value, bytes):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(value).hexdigest()


# --- token ids


def tokens(work: Path, shared: Path) -> Entries:
    """Token ids, scored span and demonstrations of every cell and training of every grid."""
    for name, path, sets in experiments(work, shared):
        experiment = where.Experiment(path, sets, _vector)
        for view, rows in experiment.views(TRAIN_ROWS):
            dropped = sum(row.n_dropped for row in rows)
            told = f"{len(rows)} rows" + (f", {dropped} demonstrations dropped" if dropped else "")
            yield f"tokens/{name}/{view}", f"{told}, {sha256_of([asdict(row) for row in rows])}"
        for cell, prompts in experiment.prompts(PROMPT_ROWS):
            yield f"prompts/{name}/{cell}", f"{len(prompts)} rows, {sha256_of(prompts)}"


def experiments(work: Path, shared: Path) -> Iterable[tuple[str, Path, list[str]]]:
    """Name, YAML and `--set`s of every grid: the examples, one with compositions, one with every prompt."""
    llama2 = work / "llama2-tokenizer"
    shutil.copytree(shared / "llama2-tokenizer", llama2, copy_function=shutil.copyfile)
    llama2.chmod(0o755)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}
    (llama2 / "config.json").write_text(json.dumps({**config, "eos_token_id": 2, "bos_token_id": 1}))
    chat = where.write_tiny_model(work / "chat", "llama")
    (chat / "chat_template.jinja").write_text(CHAT)
    of_study = [f"data.dir={shared / 'hw3'}", f"data.test_rows={TEST_ROWS}"]
    for path in sorted((REPOSITORY / "examples").rglob("*.yaml")):
        in_study = path.parent.name == "hw3"
        sets = of_study if in_study else [f"data.test_rows={TEST_ROWS}"]
        if path.name == "experiment.yaml":  # the study's own model: its tokenizer is Llama 2's
            sets = [*sets, f"model.name={llama2}", "model.revision=null"]
        yield path.relative_to(REPOSITORY / "examples").with_suffix("").as_posix(), path, sets
    names = json.dumps(where.prompt_names())
    for name, text, model in (("composed", COMPOSED, llama2), ("catalogue", CATALOGUE, chat)):
        path = work / f"{name}.yaml"
        path.write_text(text.replace("MODEL", str(model)).replace("PROMPTS", names), encoding="utf-8")
        yield name, path, []


def _vector(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Stands for an embedding: drawn from the text's hash."""
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8)
    return digest.astype(np.float32) - np.float32(127.5)


# --- numbers of tiny models


def numbers(work: Path) -> Entries:
    """NLL, gradients, vectors and written tokens of tiny models, to the bit."""
    for architecture in where.ARCHITECTURES:
        folder = where.write_tiny_model(work / "models" / architecture, architecture)
        yield f"model/{architecture}", sha256_of((folder / "model.safetensors").read_bytes())
        weights = ["none", "nf4"] if architecture in ("llama", "gemma3") else ["none"]
        for quantize in weights:
            for dtype in ("float32", "bfloat16"):
                at = f"numbers/{architecture}/{quantize}/{dtype}"
                for name, value in _of_model(where.Tiny(folder, dtype, quantize)):
                    yield f"{at}/{name}", value


def made_pairs(n: int) -> list[tuple[str, str]]:
    """Instructions and outputs of unlike lengths."""
    return [
        (
            "翻譯：" + "".join(PIECES[(i * 3 + j) % 10] for j in range(1 + i % 5)),
            "".join(PIECES[(i * 7 + j) % 10] for j in range(1 + (i * 5) % 4)),
        )
        for i in range(n)
    ]


def _of_model(tiny: where.Tiny) -> Entries:
    rows = tiny.render(made_pairs(12), TEMPLATES)
    texts = [f"古文今譯，請看範例。{instruction}{i}" for i, (instruction, _) in enumerate(made_pairs(6))]
    vectors = tiny.vectors(texts)
    yield "vectors", sha256_of(b"".join(vectors[text].tobytes() for text in texts))
    for adapter in ("base", "adapter"):
        if adapter == "adapter":
            tiny.attach(seed=0)
        for passes, budget, packed in (("default", None, None), ("small", 300, None), ("one-by-one", None, False)):
            found = list(tiny.nll(rows, budget, packed))
            yield f"{adapter}/nll/{passes}", [nll.hex() for nll, _ in found]
            yield f"{adapter}/nll-of-tokens/{passes}", sha256_of(b"".join(each for _, each in found))
        yield f"{adapter}/greedy", tiny.write(texts, max_new_tokens=24)
        yield f"{adapter}/drawn", tiny.write(texts, max_new_tokens=24, temperature=1.5, top_p=0.95, seed=3)
        yield f"{adapter}/beams", tiny.write(texts[:2], max_new_tokens=8, beams=2)
    for passes, max_rows, share_prefix in (("whole", 12, True), ("cut", 4, True), ("unshared", 4, False)):
        nll, gradients = tiny.gradient(rows, max_rows=max_rows, share_prefix=share_prefix)
        bits = b"".join(name.encode() + tensor.contiguous().numpy().tobytes() for name, tensor in gradients.items())
        yield f"gradient/{passes}", f"{len(gradients)} tensors {sha256_of(bits)} nll {nll.hex()}"
