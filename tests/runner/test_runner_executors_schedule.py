"""The time until several processes are done, against schedules worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.grid.cells import TrainingSpec
from triptych.runner.executors.schedule import makespan

ONE, OTHER = TrainingSpec("default", seed=0), TrainingSpec("default", seed=1)


def base(*seconds: float) -> list[tuple[TrainingSpec | None, float]]:
    return [(None, one) for one in seconds]


def test_one_process_takes_the_sum() -> None:
    assert makespan([*base(1, 2, 3), (ONE, 4), (ONE, 5)], {ONE: 10}, 1) == 25


def test_trainings_begin_first_and_their_cells_wait_for_them() -> None:
    # 0: training until 10, then its cell until 12; 1: 6, then 3, then 1
    assert makespan([*base(1, 3, 6), (ONE, 2)], {ONE: 10}, 2) == 12
    # 1 is free at 9 and waits: a cell can't begin before the training ends
    assert makespan([*base(9), (ONE, 3), (ONE, 3)], {ONE: 10}, 2) == 13


def test_cells_of_a_training_that_is_done_wait_for_nothing() -> None:
    assert makespan([(ONE, 3), (OTHER, 2)], {OTHER: 5}, 2) == 7


def test_longest_first() -> None:
    assert makespan(base(1, 1, 1, 3), {}, 2) == 3  # in the order given it would be 4


def test_nothing_takes_no_time() -> None:
    assert makespan([], {}, 4) == 0


@given(
    cells=st.lists(st.tuples(st.sampled_from([None, ONE, OTHER]), st.floats(0, 100)), max_size=10),
    trainings=st.dictionaries(st.sampled_from([ONE, OTHER]), st.floats(0, 100)),
    processes=st.integers(1, 5),
)
def test_bounds(
    cells: list[tuple[TrainingSpec | None, float]], trainings: dict[TrainingSpec, float], processes: int
) -> None:
    whole = sum(seconds for _, seconds in cells) + sum(trainings.values())
    chains = [seconds + (trainings.get(spec, 0.0) if spec else 0.0) for spec, seconds in cells]
    found = makespan(cells, trainings, processes)
    assert found <= whole + 1e-6
    assert found >= max([whole / processes, *chains, *trainings.values()]) - 1e-6
    if processes == 1:
        assert found == pytest.approx(whole)
