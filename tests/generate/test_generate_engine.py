"""Rows written together against `model.generate`, one row at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from plain_generate import PREAMBLE, made_prompts, one_by_one, prompt_of

from triptych.errors import ModelError
from triptych.generate import engine, plan
from triptych.generate.attention import DecodeBatch
from triptych.generate.engine import generate_rows
from triptych.generate.plan import Limits
from triptych.generate.settings import Generated, GenerationSettings
from triptych.progress import Silent
from triptych.prompts import RenderedPrompt

ARCHITECTURES = ["llama", "qwen3", "gemma3", "gpt2"]
MOST = 30
Writer = Callable[..., Any]


def written(loaded: Any, prompts: Sequence[RenderedPrompt], **options: Any) -> list[Generated]:
    limits = options.pop("limits", Limits(64, 100_000, 64))
    on_row, known = options.pop("on_row", None), options.pop("known", None)
    settings = GenerationSettings(**{"max_new_tokens": MOST, **options})
    return generate_rows(loaded, prompts, settings, Silent(), on_row, known=known, limits=limits)


def tokens(rows: Sequence[Generated]) -> list[list[int]]:
    return [list(row.ids) for row in rows]


@pytest.mark.parametrize("adapter", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokens_are_those_of_generate_one_by_one(
    architecture: str, adapter: bool, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = writer(architecture, adapter=adapter)
    prompts = made_prompts(loaded, 9)
    free = one_by_one(loaded, prompts[:3], max_new_tokens=MOST)
    # rows that end at different lengths leave the batch: otherwise little is tested
    prompts = [replace(prompt, stop_ids=(257, free[0][3], free[1][9], free[2][15])) for prompt in prompts]
    expected = one_by_one(loaded, prompts, max_new_tokens=MOST)
    assert len({len(row) for row in expected}) >= 4
    monkeypatch.setattr(engine, "hf_generate", lambda *_: pytest.fail("that would be comparing it with itself"))
    for rows, pass_tokens in ((64, 64), (64, 4096), (4, 50), (1, 1)):
        assert tokens(written(loaded, prompts, limits=Limits(rows, 100_000, pass_tokens))) == expected, rows
    shuffled = random.Random(1).sample(prompts, len(prompts))
    found = written(loaded, shuffled, limits=Limits(5, 300, 64))
    assert [row.row_id for row in found] == [prompt.row_id for prompt in shuffled]
    assert {row.row_id: list(row.ids) for row in found} == {
        prompt.row_id: row for prompt, row in zip(prompts, expected, strict=True)
    }


def test_an_adapter_changes_what_is_written(writer: Writer) -> None:
    plain, adapted = writer("llama"), writer("llama", adapter=True)
    prompts = made_prompts(plain, 4)
    assert tokens(written(plain, prompts)) != tokens(written(adapted, prompts))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_groups_behind_longer_prefixes_are_written_alike(
    architecture: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_GROUP_SAVES", 10)
    loaded = writer(architecture)
    texts = [PREAMBLE + "甲：" * 5, PREAMBLE + "乙乙：" * 5, PREAMBLE]
    prompts = [
        replace(prompt, row_id=f"{at}-{prompt.row_id}")
        for at, text in enumerate(texts)
        for prompt in made_prompts(loaded, 3, preamble=text)
    ]
    random.Random(0).shuffle(prompts)
    tree = plan.plan_groups(prompts)
    assert len(tree.children) >= 2
    assert tokens(written(loaded, prompts)) == one_by_one(loaded, prompts, max_new_tokens=MOST)


def test_the_prefix_is_computed_once(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = writer("llama")
    prompts = made_prompts(loaded, 12)
    shared = min(len(p.ids) for p in prompts) // 2
    passes: list[int] = []
    forward = type(loaded.model.get_decoder()).forward

    def counted(module: Any, *args: Any, **kwargs: Any) -> Any:
        passes.append(kwargs["input_ids"].shape[1])
        return forward(module, *args, **kwargs)

    written(loaded, prompts[:1])  # the probe is behind us
    monkeypatch.setattr(type(loaded.model.get_decoder()), "forward", counted)
    written(loaded, prompts, max_new_tokens=1, limits=Limits(64, 100_000, 4096))
    assert len(passes) == 2  # the prefix, and all prompts
    assert passes[0] >= shared
    assert sum(passes) == sum(len(p.ids) for p in prompts) - (len(prompts) - 1) * passes[0]


def test_every_stop_id_ends_a_row_and_is_no_part_of_its_text(writer: Writer) -> None:
    loaded = writer("llama")
    prompts = made_prompts(loaded, 6)
    free = one_by_one(loaded, prompts, max_new_tokens=MOST)
    stop_ids = (257, free[0][7], free[2][11])
    stopping = [replace(prompt, stop_ids=stop_ids) for prompt in prompts]
    found = written(loaded, stopping)
    assert tokens(found) == one_by_one(loaded, stopping, max_new_tokens=MOST)
    decode = loaded.profile.tokenizer.decode
    ends = set()
    for row in found:
        if row.stopped_by == "eos":
            ends.add(row.ids[-1])
            assert row.n_tokens == len(row.ids)
            assert row.text == decode(list(row.ids[:-1]), skip_special_tokens=True).strip()
    assert len(ends) >= 2


def test_a_row_never_passes_the_context(writer: Writer) -> None:
    loaded = writer("gpt2")  # learned positions: one too many is an error
    prompts = [replace(prompt, stop_ids=()) for prompt in made_prompts(loaded, 6)]
    context = max(len(prompt.ids) for prompt in prompts) + 1
    small = replace(loaded, max_tokens=context)
    found = written(small, prompts)
    assert [row.n_tokens for row in found] == [min(MOST, context - len(prompt.ids)) for prompt in prompts]
    assert {row.stopped_by for row in found} == {"length"}
    with pytest.raises(ModelError, match="no room") as error:
        written(replace(loaded, max_tokens=context - 1), prompts)
    assert "row-4" in str(error.value)


def test_tokens_beyond_the_vocabulary_are_refused(writer: Writer) -> None:
    loaded = writer("llama")
    with pytest.raises(ModelError, match="token id 300"):
        written(loaded, [prompt_of("a", (1, 2)), prompt_of("b", (1, 300))])


def test_the_ratio_bounds_new_tokens_by_the_prompt(writer: Writer) -> None:
    loaded = writer("mistral")
    prompts = [replace(prompt, stop_ids=()) for prompt in made_prompts(loaded, 5)]
    found = written(loaded, prompts, max_new_ratio=0.25)
    assert [row.n_tokens for row in found] == [min(MOST, round(0.25 * len(prompt.ids))) for prompt in prompts]


# --- rows that are known already


def test_known_rows_are_returned_and_their_batches_left_out(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = writer("llama")
    prompts = made_prompts(loaded, 9)
    limits = Limits(3, 100_000, 64)
    told: list[Generated] = []
    whole = written(loaded, prompts, limits=limits, on_row=told.append)
    assert sorted(row.row_id for row in told) == sorted(prompt.row_id for prompt in prompts)
    seen: list[list[str]] = []
    write_batch = engine._Writer._write_batch
    monkeypatch.setattr(
        engine._Writer,
        "_write_batch",
        lambda self, batch, past: (
            seen.append([self.prompts[row].row_id for row in batch]) or write_batch(self, batch, past)
        ),
    )
    for n_known in (0, 1, 4, 8, 9):
        seen.clear()
        known = {row.row_id: row for row in told[:n_known]}
        new: list[Generated] = []
        assert written(loaded, prompts, limits=limits, known=known, on_row=new.append) == whole
        assert sorted(row.row_id for row in new) == sorted(row.row_id for row in told[n_known:])
        assert all(set(batch) - set(known) for batch in seen)
    assert seen == []


def test_what_is_written_does_not_depend_on_which_rows_are_known(writer: Writer) -> None:
    """Batches are cut from all rows, so one that was cut short is the same batch again, 16-bit rounding included."""
    loaded = writer("llama")
    prompts = made_prompts(loaded, 9)
    limits = Limits(4, 100_000, 64)
    cut = [[row.row_id for row in group] for group in _batches(prompts, limits)]
    assert cut == [[row.row_id for row in group] for group in _batches(prompts[::-1], limits)]


def _batches(prompts: Sequence[RenderedPrompt], limits: Limits) -> list[list[RenderedPrompt]]:
    tree = plan.plan_groups(prompts)
    own = [len(prompt.ids) - tree.end for prompt in prompts]
    return [[prompts[row] for row in batch] for batch in plan.decode_batches(tree.rows, own, [MOST] * len(own), limits)]


# --- other ways to write


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_model_that_can_not_be_written_together_is_written_alone(
    architecture: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = writer(architecture)
    prompts = made_prompts(loaded, 4)
    monkeypatch.setattr(engine, "_can_decode_together", lambda *_: False)
    monkeypatch.setattr(DecodeBatch, "extend", lambda *_, **__: pytest.fail("it was continued after all"))
    said: list[str] = []
    reporter = Silent()
    monkeypatch.setattr(reporter, "info", said.append)
    found = generate_rows(loaded, prompts, GenerationSettings(max_new_tokens=MOST), reporter)
    assert tokens(found) == one_by_one(loaded, prompts, max_new_tokens=MOST)
    assert said == []  # the probe has said it, with the reason (tests/generate/test_generate_plan_probe.py)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_beams_are_those_of_generate_one_by_one(architecture: str, writer: Writer) -> None:
    loaded = writer(architecture)
    prompts = made_prompts(loaded, 5)
    found = written(loaded, prompts, beams=3, max_new_tokens=10)
    # the padding is taken off that generate puts behind a shorter beam
    assert tokens(found) == one_by_one(loaded, prompts, max_new_tokens=10, num_beams=3)
    assert tokens(found) != tokens(written(loaded, prompts, max_new_tokens=10))


def test_what_the_models_own_file_asks_for_plays_no_part(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GenerationConfig

    loaded = writer("llama")
    prompts = made_prompts(loaded, 3)
    beams = tokens(written(loaded, prompts, beams=2, max_new_tokens=8))
    asks = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=3.0)
    monkeypatch.setattr(loaded.model, "generation_config", asks)
    assert tokens(written(loaded, prompts, beams=2, max_new_tokens=8)) == beams
    assert loaded.model.generation_config is asks


def test_drawn_tokens_depend_on_seed_and_row_alone(writer: Writer) -> None:
    loaded = writer("qwen3")
    prompts = made_prompts(loaded, 7)
    drawing = {"temperature": 1.5, "top_p": 0.95, "top_k": 50}
    whole = tokens(written(loaded, prompts, **drawing))
    assert tokens(written(loaded, prompts, limits=Limits(2, 100_000, 64), **drawing)) == whole
    assert tokens(written(loaded, prompts[::-1], **drawing)) == whole[::-1]
    assert tokens(written(loaded, prompts[3:4], **drawing)) == whole[3:4]
    assert tokens(written(loaded, prompts, seed=1, **drawing)) != whole
    assert whole != tokens(written(loaded, prompts))
    # the same prompt under another id is another draw
    twin = [replace(prompts[0], row_id="twin"), prompts[0]]
    a, b = tokens(written(loaded, twin, **drawing))
    assert a != b == whole[0]


def test_drawing_the_likeliest_is_greedy(writer: Writer) -> None:
    loaded = writer("gemma3")
    prompts = made_prompts(loaded, 4)
    assert tokens(written(loaded, prompts, temperature=0.7, top_k=1)) == tokens(written(loaded, prompts))


def test_out_of_memory_halves_the_batch(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = writer("llama")
    prompts = made_prompts(loaded, 7)
    whole = written(loaded, prompts)
    extend, calls = DecodeBatch.extend, []

    def scarce(self: DecodeBatch, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(len(self.lengths))
        if len(self.lengths) > 3 and len(calls) > 5:  # some rows may be done by then
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return extend(self, *args, **kwargs)

    monkeypatch.setattr(DecodeBatch, "extend", scarce)
    told: list[Generated] = []
    with caplog.at_level(logging.WARNING):
        assert written(loaded, prompts, on_row=told.append) == whole
    assert "out of memory with 7 rows at a time: continuing with half" in caplog.text
    assert sorted(row.row_id for row in told) == sorted(row.row_id for row in whole)

    def broken(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("shapes don't match")

    monkeypatch.setattr(DecodeBatch, "extend", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        written(loaded, prompts)
