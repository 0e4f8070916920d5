"""The scorer against the plain reference: the same numbers, whatever is scored together and on which model."""

from __future__ import annotations

import logging
import math
import random
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import reference_nll
from triptych.data import Row
from triptych.errors import ModelError, ScoringError
from triptych.likelihood import passes
from triptych.likelihood import score as score_module
from triptych.likelihood.checks import check_nll
from triptych.likelihood.plan import plan_branches
from triptych.likelihood.score import RowNLL, Scorer, to_items
from triptych.models import LoadedModel, LoraSettings, adapter_enabled, attach_adapter
from triptych.prompts import Rendered, Template, find_template, render, template_from_mapping

ARCHITECTURES = ["llama", "qwen3", "gemma3", "mistral", "gpt2"]
TEMPLATE = template_from_mapping(
    {
        "preamble": "A preamble that is much longer than the window of eight. ",
        "zero_shot": "{preamble}{instruction} ASSISTANT:",
        "few_shot": {
            "head": "{preamble}{k} shown. ",
            "demo": "{i}) {instruction} -> {output}; ",
            "tail": "USER: {instruction}:",
        },
    },
    name="t",
    where="test",
)
HARD = (
    "translate the following into the classical language, keeping to the form of the original as far as may be, "
    "neither adding to what is said nor leaving anything out: "
)
ROWS = [
    *(
        Row(f"hard {i}", HARD + text, out)
        for i, (text, out) in enumerate(
            [
                ("the sun", "日"),
                ("the sun and moon", "日月"),
                ("the sun and the moon rise", "日月升"),
                ("a", ""),
                ("b!", "乙乙乙乙"),
                ("the sun", "a second answer, longer than the first"),
            ]
        )
    ),
    *(
        Row(f"easy {i}", text, out)
        for i, (text, out) in enumerate(
            [
                ("天亮了", "天明"),
                ("天亮了。", "x"),
                ("", "nothing asked"),
                ("天亮了", "天明"),
                ("zz", "z" * 40),
            ]
        )
    ),
]
DEMOS = [Row("d1", "one", "uno"), Row("d2", "two", "dos")]


def cases(loaded: LoadedModel) -> tuple[list[Rendered], list[list[float]]]:
    """Rendered rows, zero-shot and with demonstrations, and what the reference says of their texts."""
    rendered, expected = [], []
    for i, row in enumerate(ROWS):
        demos = DEMOS if i % 3 == 0 else []
        rendered.append(render(row, TEMPLATE, loaded.profile, demos=demos))
        expected.append(
            reference_nll(loaded.model, loaded.profile.tokenizer, TEMPLATE.prompt(row.instruction, demos), row.target())
        )
    return rendered, expected


def assert_same(got: list[RowNLL], expected: list[list[float]]) -> None:
    assert len(got) == len(expected)
    for nll, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(nll.tokens, reference, atol=3e-5, rtol=0)
        assert abs(nll.nll_nats - math.fsum(reference)) / len(reference) <= 1e-5


def randomize(adapter: Any, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapter.parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=generator)


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parity_with_the_reference(load_fake: Any, architecture: str, adapted: bool) -> None:
    loaded = load_fake(architecture)
    base = Scorer(loaded).score(cases(loaded)[0]) if adapted else []
    if adapted:
        randomize(attach_adapter(loaded, LoraSettings(r=4, alpha=8), seed=0))
    rendered, expected = cases(loaded)
    for budget in (1, 64, 100_000, None):
        scorer = Scorer(loaded, budget_tokens=budget)
        assert scorer.packed
        order = list(range(len(rendered)))
        random.Random(budget).shuffle(order)
        got = scorer.score([rendered[i] for i in order])
        assert_same(got, [expected[i] for i in order])
    if adapted:  # the adapter matters, or its parity would say nothing
        assert max(abs(a.nll_nats - math.fsum(b)) for a, b in zip(base, expected, strict=True)) > 1


def test_the_cases_above_share_prefixes_on_several_levels(load_fake: Any) -> None:
    rendered, _ = cases(load_fake("llama"))
    root = plan_branches(rendered)
    assert root.end > 50  # far over the window of 8
    assert len(root.children) == 1
    assert root.rows
    assert root.children[0].rows


def test_the_model_goes_on_as_before(load_fake: Any) -> None:
    loaded = load_fake("gemma3")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        before = loaded.model(ids).logits
    attention = loaded.model.config._attn_implementation
    Scorer(loaded).score(cases(loaded)[0])
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, before)
    assert loaded.model.config._attn_implementation == attention


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_uniform_model_costs_ln_v_a_token(load_fake: Any, architecture: str) -> None:
    loaded = load_fake(architecture, uniform=True)
    rendered = [render(row, TEMPLATE, loaded.profile) for row in ROWS]
    for row, nll in zip(rendered, Scorer(loaded).score(rendered), strict=True):
        assert len(nll.tokens) == row.n_scored
        np.testing.assert_allclose(nll.tokens, math.log(259), atol=1e-6)
        assert nll.nll_nats == pytest.approx(row.n_scored * math.log(259), abs=1e-5)
    ppl = [item.ppl for item in to_items(rendered, Scorer(loaded).score(rendered))]
    assert ppl == pytest.approx([259] * len(ppl), rel=1e-6)


def test_empty_output_scores_eos_alone(load_fake: Any) -> None:
    loaded = load_fake("llama")
    rendered = render(Row("r", "question", ""), TEMPLATE, loaded.profile)
    (nll,) = Scorer(loaded).score([rendered])
    with torch.no_grad():
        logits = loaded.model(torch.tensor([rendered.ids])).logits[0, -2]
    assert len(nll.tokens) == 1
    assert nll.nll_nats == pytest.approx(-logits.log_softmax(-1)[257].item(), abs=1e-5)


def test_no_rows(load_fake: Any) -> None:
    assert Scorer(load_fake("llama")).score([]) == []


def test_without_bos(load_fake: Any) -> None:
    """A prompt of a single token, which no prefix may take."""
    loaded = load_fake("llama")
    loaded.profile.tokenizer.bos_token = None
    template = template_from_mapping({"zero_shot": "{instruction}"}, name="t", where="test")
    profile = type(loaded.profile)(loaded.profile.tokenizer, None, 257, "")
    pairs = [("a", "xyz"), ("a", "xyw"), ("ab", "x"), ("b", "")]
    rendered = [render(Row(p, p, o), template, profile) for p, o in pairs]
    expected = [reference_nll(loaded.model, profile.tokenizer, p, o) for p, o in pairs]
    assert_same(Scorer(loaded).score(rendered), expected)


def test_rows_longer_than_a_block_of_queries(load_fake: Any) -> None:
    loaded = load_fake("gemma3")
    rows = [Row(str(n), "long: " + "lorem ipsum " * n, "dolor sit amet " * n) for n in (30, 29, 2)]
    rendered = [render(row, TEMPLATE, loaded.profile) for row in rows]
    expected = [
        reference_nll(loaded.model, loaded.profile.tokenizer, TEMPLATE.prompt(r.instruction), r.target()) for r in rows
    ]
    assert_same(Scorer(loaded).score(rendered), expected)


@cache
def _alone(loaded_id: int, prompt: str, output: str) -> tuple[float, ...]:
    loaded = _MODELS[loaded_id]
    return tuple(reference_nll(loaded.model, loaded.profile.tokenizer, prompt, output))


_MODELS: dict[int, LoadedModel] = {}
BARE: Template = template_from_mapping({"zero_shot": "{instruction}"}, name="bare", where="test")


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_what_is_scored_together_changes_nothing(load_fake: Any, architecture: str) -> None:
    """Any rows (nested, repeated, empty), any order, any budget, every branch taken that can be."""
    loaded = load_fake(architecture)
    _MODELS[id(loaded)] = loaded
    piece = st.sampled_from(["ab", "abc", "a" * 12, "b"])
    prompt = st.lists(piece, max_size=5).map("".join)

    @settings(max_examples=25)
    @given(
        st.lists(st.tuples(prompt, st.text("abc", max_size=6)), min_size=1, max_size=10),
        st.sampled_from([1, 9, 50, 9999]),
    )
    def check(pairs: list[tuple[str, str]], budget: int) -> None:
        rendered = [render(Row(str(i), p, o), BARE, loaded.profile) for i, (p, o) in enumerate(pairs)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(score_module, "plan_branches", partial(plan_branches, saves=1))
            got = Scorer(loaded, budget_tokens=budget, packed=True).score(rendered)
            again = Scorer(loaded, budget_tokens=budget, packed=True).score(rendered[::-1] + rendered)
        for nll, (p, o) in zip(got, pairs, strict=True):
            np.testing.assert_allclose(nll.tokens, _alone(id(loaded), p, o), atol=1e-5, rtol=0)
        for nll, (p, o) in zip(again, pairs[::-1] + pairs, strict=True):
            np.testing.assert_allclose(nll.tokens, _alone(id(loaded), p, o), atol=1e-5, rtol=0)

    check()


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_pass_that_computes_the_rest_of_its_prefix(load_fake: Any, architecture: str) -> None:
    """As training does: some of the prefix from earlier, the rest in the same pass."""
    loaded = load_fake(architecture)
    rendered, expected = cases(loaded)
    together = [i for i in range(len(rendered)) if ROWS[i].id.startswith("hard") and i % 3]
    rows = [rendered[i] for i in together]
    shared = passes.common_prefix(rows)
    assert shared > 100
    assert len({row.ids[:shared] for row in rows}) == 1
    head = Scorer(loaded).head
    with torch.no_grad():
        for n_prefix in (0, 20, shared):
            for n_past in (0, n_prefix // 2, n_prefix):
                past = passes.prefix_kv(loaded, rows[0].ids[:n_past], None) if n_past else None
                nll = passes.pass_nll(loaded, head, rows, n_prefix, past)
                exact = torch.tensor([x for i in together for x in expected[i]])
                torch.testing.assert_close(nll, exact, atol=3e-5, rtol=0)


def test_common_prefix_leaves_everyones_last_prompt_token() -> None:
    rows = [Rendered("a", (1, 2, 3, 4, 5), 4, 1), Rendered("b", (1, 2, 3, 9, 5), 4, 1)]
    assert passes.common_prefix(rows) == 3
    assert passes.common_prefix([*rows, Rendered("c", (1, 2, 3, 4), 2, 1)]) == 1
    assert passes.common_prefix([*rows, Rendered("c", (7, 2, 3, 4), 3, 1)]) == 0
    assert passes.common_prefix(rows[:1]) == 3


def test_progress_counts_every_row(load_fake: Any) -> None:
    loaded = load_fake("llama")
    rendered, _ = cases(loaded)
    for packed in (True, False):
        seen: list[int] = []
        Scorer(loaded, budget_tokens=200, packed=packed).score(rendered, seen.append)
        assert sum(seen) == len(rendered)


def test_adapter_off_is_the_base_model(load_fake: Any) -> None:
    loaded = load_fake("llama")
    rendered, expected = cases(loaded)
    adapter = attach_adapter(loaded, LoraSettings(r=4, alpha=8), seed=0)
    randomize(adapter)
    scorer = Scorer(loaded)
    with adapter_enabled(adapter, on=False):
        assert_same(scorer.score(rendered), expected)
    assert abs(scorer.score(rendered)[0].nll_nats - math.fsum(expected[0])) > 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_stays_packed_and_near(load_fake: Any, architecture: str) -> None:
    loaded, exact = load_fake(architecture, dtype="bfloat16"), load_fake(architecture)
    rendered, expected = cases(exact)
    scorer = Scorer(loaded)
    assert scorer.packed
    ours = np.concatenate([nll.tokens for nll in scorer.score(rendered)])
    reference = np.concatenate([np.array(nll) for nll in expected])
    own = np.concatenate([nll.tokens for nll in Scorer(loaded, packed=False).score(rendered)])
    # as near to float32 as the model's own bfloat16 forward is, give or take
    assert np.abs(ours - reference).mean() < 1.5 * np.abs(own - reference).mean() + 1e-3
    assert abs(ours.mean() - reference.mean()) < 0.02 * reference.mean()


# ---- models that can't be computed in packed passes


def other_model(kind: str, tmp_path: Any, fake_folder: Any, load_fake: Any) -> LoadedModel:
    import transformers as hf

    base = {"vocab_size": 259, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "hidden_size": 32}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = {
        "attention sinks": lambda: hf.GptOssConfig(
            **base, **layers, intermediate_size=48, num_local_experts=2, num_experts_per_tok=1, sliding_window=8
        ),
        "recurrent": lambda: hf.MambaConfig(**base, num_hidden_layers=2, state_size=4),
        "alibi": lambda: hf.BloomConfig(**base, n_layer=2, n_head=4),
        "short context": lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=48, vocab_size=259),
        "soft-capped attention": lambda: hf.Gemma2Config(
            **base,
            **layers,
            intermediate_size=48,
            sliding_window=8,
            attn_logit_softcapping=1.0,
            final_logit_softcapping=5.0,
            query_pre_attn_scalar=8,
        ),
        "experts": lambda: hf.Qwen3MoeConfig(
            **base, **layers, intermediate_size=48, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
        ),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    hf.AutoTokenizer.from_pretrained(fake_folder("llama")).save_pretrained(tmp_path)
    loaded: LoadedModel = load_fake(tmp_path)
    return loaded


@pytest.mark.parametrize(
    ("kind", "packed"),
    [
        ("attention sinks", False),
        ("recurrent", False),
        ("alibi", False),
        ("short context", False),
        ("soft-capped attention", True),
        ("experts", True),
    ],
)
def test_other_architectures(
    kind: str, packed: bool, tmp_path: Any, fake_folder: Any, load_fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Scored right, one way or the other, and told when it is the slow way."""
    loaded = other_model(kind, tmp_path, fake_folder, load_fake)
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(loaded)
    assert scorer.packed is packed
    assert ("one by one" in caplog.text) is not packed
    if kind == "short context":
        rendered = [render(Row("r", "abc", "de"), BARE, loaded.profile)]
        expected = [reference_nll(loaded.model, loaded.profile.tokenizer, "abc", "de")]
    else:
        rendered, expected = cases(loaded)
    assert_same(scorer.score(rendered), expected)


def test_attention_that_passes_something_new(
    load_fake: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.models.llama import modeling_llama

    loaded = load_fake("llama")
    rendered, expected = cases(loaded)
    original = modeling_llama.LlamaAttention.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs, position_bias=torch.zeros(1))

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", forward)
    attention = loaded.model.config._attn_implementation
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(loaded)
    assert not scorer.packed
    assert "one by one" in caplog.text
    assert loaded.model.config._attn_implementation == attention
    assert_same(scorer.score(rendered), expected)


def test_a_difference_in_numbers_is_found(
    load_fake: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An architecture whose own forward does something we don't: here, whose logits are halved."""
    loaded = load_fake("llama")
    loaded.model.lm_head.register_forward_hook(lambda _module, _inputs, out: out / 2)
    rendered, expected = cases(loaded)
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(loaded)
    assert not scorer.packed
    assert "its output head gives other logits than its weight" in caplog.text
    assert_same(scorer.score(rendered), expected)


# ---- numbers that mean nothing, rows that don't fit


@pytest.mark.parametrize("packed", [None, True, False])
def test_nan_weights_name_row_and_token(load_fake: Any, packed: bool | None) -> None:
    loaded = load_fake("llama")
    loaded.model.lm_head.weight.data[7] = float("nan")
    rendered = [render(Row("the row", "abc", "xyz"), TEMPLATE, loaded.profile)]
    with pytest.raises(ScoringError) as caught:
        Scorer(loaded, packed=packed).score(rendered)
    message = str(caught.value)
    assert "'the row'" in message
    assert f"scored token 1 of 4 (id {rendered[0].ids[rendered[0].n_prompt]})" in message
    assert caught.value.exit_code == 1


def test_only_the_row_that_meets_a_nan_is_named(load_fake: Any) -> None:
    loaded = load_fake("llama")
    (bad,) = loaded.profile.encode("Z")
    loaded.model.model.embed_tokens.weight.data[bad] = float("nan")
    rows = [Row(f"row {i}", text, "out") for i, text in enumerate(["abc", "abd", "abZe", "abf"])]
    rendered = [render(row, TEMPLATE, loaded.profile) for row in rows]
    scorer = Scorer(loaded, packed=True)
    with pytest.raises(ScoringError, match="'row 2'"):
        scorer.score(rendered)
    clean = [r for r in rendered if r.row_id != "row 2"]
    assert len(scorer.score(clean)) == 3


def test_the_first_bad_token_is_the_one_named() -> None:
    row = Rendered("r", (1, 2, 30, 31, 32), 2, 3)
    with pytest.raises(ScoringError, match=r"scored token 2 of 3 \(id 31\) has NLL inf"):
        check_nll(row, np.array([1.0, np.inf, np.nan], dtype=np.float32))


@pytest.mark.parametrize("packed", [True, False])
def test_a_row_longer_than_the_context(load_fake: Any, packed: bool) -> None:
    loaded = load_fake("llama")
    loaded.max_tokens = 40
    fits = Rendered("fits", (256, *range(38), 257), 5, 1)
    long = Rendered("long", (256, *range(39), 257), 5, 1)
    scorer = Scorer(loaded, packed=packed)
    assert len(scorer.score([fits])) == 1
    with pytest.raises(ModelError, match="longer than the model's context") as caught:
        scorer.score([fits, long])
    assert "'long'" in str(caught.value)
    assert "41 tokens" in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_a_token_outside_of_the_vocabulary(load_fake: Any, packed: bool) -> None:
    """An EOS that the model never learned: it is scored but never read, so nothing else would notice."""
    loaded = load_fake("llama")
    with pytest.raises(ModelError, match="not in the model's vocabulary") as caught:
        Scorer(loaded, packed=packed).score([Rendered("r", (256, 1, 2, 259), 2, 1)])
    assert "token id 259" in str(caught.value)


def test_items_join_rows_and_scores() -> None:
    rows = [Rendered("a", (1, 2, 3, 4), 2, 7, ("d",), 1), Rendered("b", (1, 2, 3), 2, 0)]
    nlls = [RowNLL(np.array([0.5, 0.25], np.float32)), RowNLL(np.array([2.0], np.float32))]
    one, two = to_items(rows, nlls)
    assert (one.id, one.nll_nats, one.n_tokens, one.n_chars) == ("a", 0.75, 2, 7)
    assert (one.n_prompt_tokens, one.n_demos, one.n_demos_dropped, one.demo_ids) == (2, 1, 1, ("d",))
    assert (two.id, two.nll_nats, two.n_tokens, two.n_demos) == ("b", 2.0, 1, 0)
    with pytest.raises(ValueError, match="zip"):
        to_items(rows, nlls[:1])


def test_the_studys_prompt_scores_like_the_reference(load_fake: Any) -> None:
    loaded = load_fake("qwen3")
    template = find_template("emotional")
    rows = [Row(str(i), text, "天明") for i, text in enumerate(["天亮了", "天黑了", "下雨了"])]
    rendered = [render(row, template, loaded.profile) for row in rows]
    expected = [
        reference_nll(loaded.model, loaded.profile.tokenizer, template.prompt(r.instruction), r.target()) for r in rows
    ]
    assert_same(Scorer(loaded).score(rendered), expected)
