"""What scoring takes is counted with the sizes that the scorer itself computes with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fake_model import fake_config
from triptych.config.tune import TuneConfig
from triptych.likelihood.head import head_chunk
from triptych.models.shape import shape_of
from triptych.plan.memory import memory_need
from triptych.plan.tokens import Work


@pytest.mark.parametrize("gpu", [False, True])
def test_a_chunk_of_logits_is_as_large_as_the_heads_own(gpu: bool) -> None:
    """On a GPU it was counted as small as a CPU's: 6 MiB instead of 96."""
    rows, columns = head_chunk("cuda" if gpu else "cpu")
    shapes = [replace(shape_of(fake_config("llama")), vocab_size=n) for n in (64, columns)]
    needs = [
        memory_need(
            shape,
            "plain",
            quantize="none",
            double_quant=True,
            dtype="bfloat16",
            process=0,
            scoring=Work(rows=1, plain=2000, forward=2000, scored=1000),
            budget=16_384,
            training=None,
            tune=TuneConfig(),
            recompute=False,
            gpu=gpu,
        )
        for shape in shapes
    ]
    assert needs[1].scoring - needs[0].scoring == rows * (columns - 64) * (2 + 4)
