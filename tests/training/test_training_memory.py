"""The estimate of memory: its count is what autograd keeps, and its parts move the way they must."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from triptych.config.tune import TuneConfig
from triptych.likelihood.head import head_of
from triptych.models import LoraSettings, attach_adapter
from triptych.models.shape import ModelShape, shape_of
from triptych.prompts import Rendered
from triptych.training import training_bytes
from triptych.training.memory import Held, PassSize, _block_bytes, largest_pass, weight_bytes
from triptych.training.step import accumulate_gradient

if TYPE_CHECKING:
    from triptych.models import LoadedModel

SEVEN = ModelShape(
    n_layers=32,
    hidden_size=4096,
    intermediate_size=11008,
    n_heads=32,
    n_kv_heads=32,
    head_dim=128,
    vocab_size=32000,
    tied=False,
    linear_parameters=6_476_005_376,
    embedding_parameters=262_144_000,
    other_parameters=266_240,
    targets={
        **{name: [(4096, 4096)] * 32 for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
        **{name: [(4096, 11008)] * 32 for name in ("gate_proj", "up_proj")},
        "down_proj": [(11008, 4096)] * 32,
    },
)
SIZE = PassSize(tokens=1600, scored=400, rows=16, longest=120)


def step(shape: ModelShape = SEVEN, size: PassSize = SIZE, **options: Any) -> int:
    return training_bytes(shape, size, **{"r": 16, **options}).step


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_block_keeps_what_is_counted(
    architecture: str, dtype: str, load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]]
) -> None:
    """Every tensor that autograd keeps, counted once, against the formula."""
    loaded = load_fake(architecture, dtype=dtype)
    shape = shape_of(loaded.model.config)
    attach_adapter(loaded, LoraSettings(r=4), seed=0)
    rows = [Rendered(str(i), tuple((i * 7 + j * j) % 250 for j in range(60 + i)), 40, 1) for i in range(8)]
    weights = {p.untyped_storage().data_ptr() for p in loaded.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        accumulate_gradient(loaded, head_of(loaded.model), rows, max_rows=8, max_tokens=10_000, share_prefix=False)
    item = 4 if dtype == "float32" else 2
    size = PassSize.of(rows, share_prefix=False)
    block = _block_bytes(shape, size, 4, tuple(shape.targets), item, False, False, "blocks" if item == 2 else "fused")
    assert shape.n_layers * block == pytest.approx(sum(kept.values()), rel=0.1)


def test_parts_of_a_7b_model() -> None:
    estimate = training_bytes(SEVEN, SIZE, r=16, device="cuda")
    assert estimate.weights == 2 * SEVEN.parameters
    assert estimate.adapter == estimate.gradients == 4 * 39_976_960  # r (in + out) over all linear layers
    assert estimate.optimizer == 2 * estimate.adapter
    assert estimate.total == estimate.weights + estimate.adapter + estimate.step
    # 4.5 MB a token if norms kept nothing and attention's operands were views; float32 norms and padding are the rest
    assert 4.5e6 < estimate.activations / SIZE.tokens < 7e6
    assert estimate.head < 0.02 * estimate.activations


@pytest.mark.parametrize(("held", "measured"), [("dequantized", 29.83e9), ("packed", 20.26e9)])
def test_what_a_gpu_took(held: Held, measured: float) -> None:
    """Allocated at the peak of nine steps on an H200 (docs/results/gpu.md); the largest pass of these steps."""
    largest = PassSize(tokens=2999, scored=1205, rows=16, longest=365, prefix=83)
    assert training_bytes(SEVEN, largest, r=16, held=held, device="cuda").total == pytest.approx(measured, rel=0.1)


def test_packed_weights_and_activation_checkpointing_save_what_they_are_for() -> None:
    packed = weight_bytes(SEVEN, "bfloat16", "packed")
    assert packed == pytest.approx(0.516 * SEVEN.linear_parameters + 2 * SEVEN.embedding_parameters, rel=0.01)
    assert weight_bytes(SEVEN, "bfloat16", "packed", double_quant=False) > packed
    assert weight_bytes(SEVEN, "float32", "plain") == 2 * weight_bytes(SEVEN, "bfloat16", "dequantized")
    plain, again = (training_bytes(SEVEN, SIZE, r=16, recompute=on, device="cuda") for on in (False, True))
    assert again.activations < 0.15 * plain.activations
    assert (again.weights, again.optimizer, again.head) == (plain.weights, plain.optimizer, plain.head)


def test_more_of_anything_takes_more() -> None:
    assert step(size=PassSize(3200, 800, 32, 120)) > 1.5 * step()
    assert step(size=PassSize(1600, 400, 4, 400)) > step()  # longer rows: more keys for each query
    assert step(r=64) > step()
    assert step(target_modules=("q_proj", "v_proj")) < step()
    assert step(dtype="float32", device="cuda") > step(device="cuda")
    assert step(dropout=True) > step()
    assert step(use_dora=True) > step()
    assert step(held="packed") > step()  # a layer's weights, dequantized for the moment


def test_the_largest_pass_is_one_that_training_will_make(
    load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]]
) -> None:
    rows = rendered(load_fake("llama"), 40)
    config = TuneConfig(batch_size=8, accumulation=2)
    size = largest_pass(rows, config)
    assert size.rows == 8
    assert 0 < size.prefix < min(row.n_prompt for row in rows)
    assert size.tokens < sum(sorted((len(row.ids) for row in rows), reverse=True)[:8])
    assert largest_pass(rows, TuneConfig(batch_size=8, tokens_per_pass=150)).tokens <= 150
    assert largest_pass(rows, TuneConfig(batch_size=8, dropout=0.1)).prefix == 0
    assert largest_pass(rows, config, ranks=4).rows <= 8


SCRIPT = """
import ctypes, json, random, sys
import torch
from transformers import AutoConfig
from triptych.likelihood.head import head_of
from triptych.config.model import ModelConfig
from triptych.models import LoraSettings, attach_adapter, load_model
from triptych.models.shape import shape_of
from triptych.prompts import Rendered
from triptych.training.memory import PassSize, training_bytes
from triptych.training.recompute import recomputed
from triptych.training.step import accumulate_gradient

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

tokens, on = int(sys.argv[1]), sys.argv[2] == "on"
loaded = load_model(ModelConfig(name="demo", dtype="bfloat16", threads=1))
adapter = attach_adapter(loaded, LoraSettings(r=16), seed=0)
optimizer = torch.optim.AdamW(adapter.parameters().values(), fused=True)
head, draw, rows, left = head_of(loaded.model), random.Random(0), [], tokens
while left > 8:
    n = min(left, draw.randint(50, 150))
    left -= n
    ids = tuple(draw.randrange(50_000) for _ in range(n))
    rows.append(Rendered(str(len(rows)), ids, max(2, int(0.7 * n)), 1))

def pass_over(rows):
    with recomputed(loaded.model, on=on, random=False):
        accumulate_gradient(loaded, head, rows, max_rows=len(rows), max_tokens=10**6, share_prefix=False)

pass_over([Rendered("warm", (2, 5, 6, 7, 8, 9), 3, 1)])  # pages of the weights, thread pools
optimizer.zero_grad()
ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading left behind
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
pass_over(rows)
optimizer.step()
size = PassSize.of(rows, share_prefix=False)
estimate = training_bytes(shape_of(loaded.model.config), size, r=16, dtype="bfloat16", recompute=on)
print(json.dumps([status("VmHWM") - before, estimate.step]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("checkpointing", ["off", "on"])
@pytest.mark.parametrize("tokens", [1024, 2048, 4096])
def test_the_estimate_is_within_a_fifth_of_the_measured_peak(tokens: int, checkpointing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tokens), checkpointing], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    measured, estimated = json.loads(done.stdout.splitlines()[-1])
    print(f"{tokens} tokens, checkpointing {checkpointing}: {measured / 2**20:.0f} MiB, {estimated / measured:.2f}")
    assert 0.8 < estimated / measured < 1.2
