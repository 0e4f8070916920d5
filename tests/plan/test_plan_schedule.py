"""The time until several processes are done, against schedules worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.plan.schedule import makespan


def test_one_process_takes_the_sum() -> None:
    assert makespan([1, 2, 3], [(10, [4, 5])], 1) == 25


def test_trainings_begin_first_and_their_cells_wait_for_them() -> None:
    # 0: training until 10, then its cell until 12; 1: 6, then 3, then 1
    assert makespan([1, 3, 6], [(10, [2])], 2) == 12
    # 1 is free at 9 and waits: a cell can't begin before the training ends
    assert makespan([9], [(10, [3, 3])], 2) == 13


def test_longest_first() -> None:
    assert makespan([1, 1, 1, 3], [], 2) == 3  # in the order given it would be 4


def test_nothing_takes_no_time() -> None:
    assert makespan([], [], 4) == 0


@given(
    cells=st.lists(st.floats(0, 100), max_size=8),
    trainings=st.lists(st.tuples(st.floats(0, 100), st.lists(st.floats(0, 50), max_size=3)), max_size=3),
    processes=st.integers(1, 5),
)
def test_bounds(cells: list[float], trainings: list[tuple[float, list[float]]], processes: int) -> None:
    whole = sum(cells) + sum(seconds + sum(following) for seconds, following in trainings)
    chains = [seconds + max(following, default=0.0) for seconds, following in trainings]
    found = makespan(cells, trainings, processes)
    assert found <= whole + 1e-6
    assert found >= max([whole / processes, *chains, *cells]) - 1e-6
    if processes == 1:
        assert found == pytest.approx(whole)
