"""Early stopping: when the dev rows say so, at the same step however often training is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_training_kill import log_of, numbers_of

from triptych.errors import DataError
from triptych.records import Aggregate, CurvePoint
from triptych.training import TuneResult, loop
from triptych.training.curve import out_of_patience

Train = Callable[..., TuneResult]


def curve_of(*ppl: float, split: str = "dev") -> list[CurvePoint]:
    return [
        CurvePoint(
            step=step,
            epoch=0,
            rows_seen=0,
            split=split,  # type: ignore[arg-type]
            aggregate=Aggregate(ppl_mean=value, ppl_corpus=1, ppl_geometric=1, bits_per_char=1, n_rows=1, n_tokens=1),
            train_loss=None,
            lr=0,
            seconds=0,
        )
        for step, value in enumerate(ppl)
    ]


@pytest.mark.parametrize(
    ("ppl", "patience", "out"),
    [
        ((), 1, False),
        ((5,), 1, False),
        ((5, 4, 3), 1, False),
        ((5, 4, 4), 1, True),  # no better is no improvement
        ((5, 3, 4), 2, False),
        ((5, 3, 4, 3.5), 2, True),
        ((5, 3, 4, 2.9, 3), 2, False),  # a better one starts the count anew
        ((5, 6, 7, 8), None, False),
    ],
)
def test_patience_counts_points_since_the_best(ppl: tuple[float, ...], patience: int | None, out: bool) -> None:
    assert out_of_patience(curve_of(*ppl), patience) is out
    # points on test say nothing
    assert out_of_patience([*curve_of(1, 2, 3, 4, split="test"), *curve_of(*ppl)], patience) is out


@pytest.fixture
def uphill(monkeypatch: pytest.MonkeyPatch) -> None:
    """After six steps training makes things worse."""
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: 0.01 if step < 6 else -0.05)


OPTIONS: dict[str, Any] = {"rows": 8, "dev": 4, "select": "dev", "epochs": 10, "eval_every": 2, "patience": 2}


@pytest.mark.usefixtures("uphill")
def test_it_stops_and_keeps_the_best(train: Train, tmp_path: Path) -> None:
    result = train(**OPTIONS)
    summary = result.summary
    assert summary.stopped_early
    assert summary.steps == summary.selected_step + 4 < 20  # two points of two steps each
    assert len(log_of(tmp_path / "tune")) == summary.steps
    assert max(point.step for point in result.curve) == summary.steps
    assert summary.settings["patience"] == 2
    patient = train("patient", **{**OPTIONS, "patience": None})
    assert (patient.summary.steps, patient.summary.stopped_early) == (20, False)
    assert patient.summary.adapter_sha256 == summary.adapter_sha256


@pytest.mark.usefixtures("uphill")
@pytest.mark.parametrize("at", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 10))])
def test_interrupted_it_stops_at_the_same_step(at: int, train: Train, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(curve: Sequence[Any]) -> None:
        if curve[-1].step == at and curve[-1].split == "dev":
            raise Killed

    whole = train("whole", **OPTIONS, checkpoint_every=3)
    assert at <= whole.summary.steps
    with pytest.raises(Killed):
        train("broken", **OPTIONS, checkpoint_every=3, on_curve=kill)
    broken = train("broken", **OPTIONS, checkpoint_every=3)
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "whole")
    assert numbers_of(tmp_path / "broken", "summary.json") == numbers_of(tmp_path / "whole", "summary.json")
    assert numbers_of(tmp_path / "broken", "curve.json") == numbers_of(tmp_path / "whole", "curve.json")
    assert broken.summary.stopped_early
    # and again, when all that is missing is the end
    again = train("broken", **OPTIONS, checkpoint_every=3)
    assert again.summary.model_copy(update={"seconds": 0}) == broken.summary.model_copy(update={"seconds": 0})


def test_running_out_at_the_last_step_is_no_early_stop(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "learning_rate", lambda config, step, total: -0.05)
    result = train(rows=8, dev=4, select="dev", epochs=2, eval_every=2, patience=2)
    assert (result.summary.steps, result.summary.stopped_early) == (4, False)


def test_no_dev_rows(train: Train) -> None:
    with pytest.raises(DataError, match="chosen on dev rows, and there are none"):
        train(dev=0, select="dev", patience=1)
