"""What scoring takes is counted with the sizes that the scorer itself computes with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fake_model import fake_config
from triptych.config.experiment import ExperimentConfig
from triptych.likelihood.head import head_chunk
from triptych.models.shape import shape_of
from triptych.plan.memory import Machine, memory_need
from triptych.plan.tokens import Work


@pytest.mark.parametrize("gpu", [False, True])
def test_a_chunk_of_logits_is_as_large_as_the_heads_own(gpu: bool) -> None:
    """On a GPU it was counted as small as a CPU's: 6 MiB instead of 96."""
    rows, columns = head_chunk("cuda" if gpu else "cpu")
    machine = Machine("cuda" if gpu else "cpu", "bfloat16", "", 1, True, 1 << 36, 1 << 36)
    settings = {"name": "x", "model": {"name": "x", "quantize": "none"}, "strategies": {"zero_shot": {}}}
    config = ExperimentConfig.model_validate({**settings, "data": {"dir": "x"}})
    work = Work(rows=1, plain=2000, forward=2000, scored=1000)
    shapes = [replace(shape_of(fake_config("llama")), vocab_size=n) for n in (64, columns)]
    needs = [memory_need(config, shape, machine, "plain", 0, work, (), recompute=False) for shape in shapes]
    assert needs[1].scoring - needs[0].scoring == rows * (columns - 64) * (2 + 4)
