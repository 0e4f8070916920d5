"""The next token."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from triptych.generate import choose
from triptych.generate.choose import Chooser
from triptych.generate.settings import GenerationSettings
from triptych.likelihood.head import Head


@pytest.mark.parametrize("chunk", [3, 7, 8192])
def test_the_likeliest_is_the_first_of_the_largest(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_CHUNK_COLUMNS", chunk)
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    weight[2] = weight[13] = torch.tensor([9.0, 0, 0, 0])
    weight[4] = weight[5] = torch.tensor([0, 9.0, 0, 0])
    hidden = torch.cat([weight[2:3], weight[4:5], torch.randn(30, 4, generator=torch.Generator().manual_seed(1))])
    for head in (
        Head(weight),
        Head(weight, torch.arange(20.0) / 10),
        Head(weight, softcap=2.0),
        Head(weight, scale=-1.0),
    ):
        logits = head.logits(hidden, slice(None))
        expected = [int((row == row.max()).nonzero()[0]) for row in logits]
        assert Chooser(head, GenerationSettings(), ["x"] * 32)(hidden, range(32)) == expected
    assert Chooser(Head(weight), GenerationSettings(), ["x"] * 32)(hidden, range(32))[:2] == [2, 4]


def test_draws_follow_temperature_and_cuts() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    head = Head(logits[:, None])
    n = 4000
    ids = [f"row-{i}" for i in range(n)]

    def shares(**options: float) -> list[float]:
        settings = GenerationSettings(temperature=2.0, **options)  # type: ignore[arg-type]
        counts = Counter(Chooser(head, settings, ids)(torch.ones(n, 1), range(n)))
        return [counts[token] / n for token in range(4)]

    expected = (logits / 2).softmax(0)
    for found, wanted in zip(shares(), expected.tolist(), strict=True):
        assert found == pytest.approx(wanted, abs=0.03)
    two = expected[:2] / expected[:2].sum()
    for cut in ({"top_k": 2}, {"top_p": 0.6}):
        found = shares(**cut)
        assert found[2:] == [0, 0]
        assert found[0] == pytest.approx(two[0].item(), abs=0.03)
