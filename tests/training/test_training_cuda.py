"""Training and scoring on a GPU. Skipped where there is none; the last run is in docs/results/gpu.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from test_training_gradient import apart, flat, ours

from triptych.likelihood.score import Scorer
from triptych.models.quantize import dequantized_once
from triptych.prompts import Rendered

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen3", "mistral"])
def test_scores_in_float32_are_the_processors(
    architecture: str, load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]]
) -> None:
    nlls = []
    for device in ("cpu", "cuda"):
        loaded = load_fake(architecture, device=device)
        nlls.append([one.nll_nats for one in Scorer(loaded).score(rendered(loaded, 12))])
    assert nlls[1] == pytest.approx(nlls[0], rel=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_scores_in_bfloat16_stay_near(
    architecture: str,
    load_fake: Callable[..., LoadedModel],
    fake_folder: Callable[..., Path],
    rendered: Callable[..., list[Rendered]],
) -> None:
    folder = fake_folder(architecture, scale=0.1)  # larger weights would amplify the rounding
    scorers = [Scorer(load_fake(folder, device="cuda", dtype=dtype)) for dtype in ("float32", "bfloat16")]
    assert all(scorer.packed for scorer in scorers)
    rows = rendered(scorers[0].loaded, 12)
    exact, rounded = (
        [one.nll_nats / row.n_scored for one, row in zip(s.score(rows), rows, strict=True)] for s in scorers
    )
    assert rounded == pytest.approx(exact, abs=0.05)
    # and what a row costs doesn't depend on who is computed beside it, beyond rounding
    alone = [scorers[1].score([row])[0].nll_nats / row.n_scored for row in rows]
    assert rounded == pytest.approx(alone, abs=0.05)


# bitsandbytes' two implementations of double quantization differ in the last bits of float32
@pytest.mark.parametrize(("quantize", "bound"), [("none", 1e-5), ("nf4", 1e-3)])
def test_the_gradient_in_float32_is_the_processors(
    quantize: str,
    bound: float,
    adapted: Callable[..., tuple[LoadedModel, Adapter]],
    rendered: Callable[..., list[Rendered]],
) -> None:
    found = []
    for device in ("cpu", "cuda"):
        loaded, adapter = adapted(
            "llama", device=device, quantize=quantize, hold="dequantized" if quantize == "nf4" else "auto"
        )
        gradient, _ = ours(loaded, adapter, rendered(loaded, 16))
        found.append(gradient.cpu())
    assert apart(found[1], found[0]) < bound


@pytest.mark.parametrize("hold", ["dequantized", "packed"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_gradient_in_bfloat16_is_the_one_row_at_a_time(
    architecture: str,
    hold: str,
    adapted: Callable[..., tuple[LoadedModel, Adapter]],
    rendered: Callable[..., list[Rendered]],
) -> None:
    loaded, adapter = adapted(architecture, device="cuda", dtype="bfloat16", quantize="nf4", hold=hold)
    rows = rendered(loaded, 16)
    together, _ = ours(loaded, adapter, rows)
    one_by_one, _ = ours(loaded, adapter, rows, max_rows=1)
    assert apart(together, one_by_one) < 0.05
    again, _ = ours(loaded, adapter, rows)
    assert torch.equal(together, again)


def test_packed_weights_dequantize_to_those_held_once(load_fake: Callable[..., LoadedModel]) -> None:
    import bitsandbytes.functional as bnb

    once, packed = (
        load_fake("llama", device="cuda", dtype="bfloat16", quantize="nf4", hold=hold)
        for hold in ("dequantized", "packed")
    )
    layers = dict(packed.model.named_modules())
    compared = 0
    for name, layer in once.model.named_modules():
        state = getattr(getattr(layers.get(name), "weight", None), "quant_state", None)
        if state is not None:
            assert torch.equal(
                layer.weight, bnb.dequantize_4bit(layers[name].weight.data, state).to(layer.weight.dtype)
            )
            compared += 1
    assert compared == 21
    # quantized on a processor it is the same, too
    on_cpu = load_fake("llama", dtype="bfloat16")
    dequantized_once(on_cpu.model)
    for one, other in zip(on_cpu.model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(one, other.cpu())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_training_that_was_cut_ends_equal(
    dropout: float, train: Callable[..., Any], load_fake: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    """Stopped after a checkpoint in the middle and gone on with: bit by bit the undisturbed one."""
    from triptych.errors import Interrupted

    class Stop:
        points = 0

        def __call__(self, curve: Any) -> None:
            self.points += 1
            if self.points == 2:
                raise Interrupted("stopped")

    options: dict[str, Any] = {"dropout": dropout, "checkpoint_every": 2, "eval_every": 5}

    def fresh() -> LoadedModel:
        return load_fake("llama", device="cuda", dtype="bfloat16", quantize="nf4")

    whole = train("whole", loaded=fresh(), **options)
    with pytest.raises(Interrupted):
        train("cut", loaded=fresh(), on_curve=Stop(), **options)
    gone_on = train("cut", loaded=fresh(), **options)
    assert torch.equal(flat_weights(whole.adapter), flat_weights(gone_on.adapter))


def flat_weights(adapter: Adapter) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in adapter.parameters().values()])


def test_flat_is_of_gradients(
    adapted: Callable[..., tuple[LoadedModel, Adapter]], rendered: Callable[..., Any]
) -> None:
    """Nothing above compares nothing."""
    loaded, adapter = adapted("llama", device="cuda")
    ours(loaded, adapter, rendered(loaded, 4))
    assert flat(adapter).numel() == sum(p.numel() for p in adapter.parameters().values())
