"""What a report says of a run that goes on."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from made_up_run import make_run

from triptych.records import RunRecord
from triptych.report import Study, answer, comparisons
from triptych.report.so_far import SoFar, roughly

AT = datetime.datetime(2026, 11, 27, 14, 28, 5, tzinfo=datetime.UTC)


def so_far(**facts: Any) -> SoFar:
    known: dict[str, Any] = {"cells": {"zero_shot": (2, 2), "few_shot": (3, 12), "qlora": (0, 1)}, "trainings": (0, 1)}
    return SoFar(**{**known, "written": AT, **facts})


def study(*cells: str, **facts: Any) -> Study:
    record, items = make_run(60)
    kept = tuple(cell for cell in record.cells if cell.cell.startswith(cells))
    scored = {cell.cell: items[cell.cell] for cell in kept}
    made = {"cells": kept, "comparisons": comparisons(kept, scored), "few_shot": (), "curve": (), "tune": None}
    return Study(RunRecord.model_validate(record.model_copy(update=made)), scored, so_far(**facts))


def test_the_banner_says_what_is_done_what_is_left_and_when_it_ends() -> None:
    now = so_far(steps=((7, 18),), seconds_left=250)
    assert now.done == "5 of 15 cells scored, 0 of 1 trainings done (step 7 of 18)."
    assert now.ends == "About 4 minutes left, until about 14:32."
    assert now.by_strategy == "zero-shot 2 of 2, few-shot 3 of 12, QLoRA 0 of 1"


def test_without_evidence_no_end_is_named() -> None:
    assert so_far().ends == "How long the rest takes is not known yet."


def test_what_the_estimate_leaves_out_is_said() -> None:
    ends = so_far(seconds_left=11 * 3600, not_counted=("the search", "the texts to be written")).ends
    assert (
        ends
        == "About 11 hours left, until about 2026-11-28 01:28, not counting the search and the texts to be written."
    )


def test_a_run_without_trainings_says_nothing_of_them() -> None:
    now = so_far(cells={"zero_shot": (1, 2)}, trainings=(0, 0))
    assert now.done == "1 of 2 cells scored."
    assert now.missing(["zero_shot"]) == "Not in this run: few-shot and QLoRA."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (3, "less than a minute"),
        (50, "about 1 minute"),
        (250, "about 4 minutes"),
        (5400, "about 90 minutes"),
        (7900, "about 2 h 10 min"),
        (200_000, "about 56 hours"),
    ],
)
def test_times_are_no_more_exact_than_an_estimate(seconds: float, said: str) -> None:
    assert roughly(seconds) == said


def test_one_strategy_alone_is_no_answer_yet() -> None:
    first, *_ = answer(study("zero_shot/default"))
    assert first.startswith("So far, only zero-shot was scored (mean perplexity ")
    assert first.endswith("to compare it with yet. Few-shot isn't scored yet, and QLoRA isn't trained yet.")


def test_what_is_best_so_far_is_no_advice_and_names_what_is_missing() -> None:
    first, *_ = answer(study("zero_shot", "few_shot"))
    assert first.startswith("So far, few-shot (k=")
    assert "Use " not in first
    assert "Worse beyond chance so far: the best zero-shot prompt" in first
    assert first.endswith("QLoRA isn't trained yet.")


def test_a_training_that_is_done_is_only_not_scored_yet() -> None:
    first, *_ = answer(study("zero_shot", "few_shot", trainings=(1, 1)))
    assert first.endswith("QLoRA isn't scored yet.")


def test_with_every_strategy_there_it_is_still_so_far() -> None:
    first, *_ = answer(study("zero_shot", "few_shot", "qlora", trainings=(1, 1)))
    assert first.startswith("So far, QLoRA")
    assert "yet" not in first
