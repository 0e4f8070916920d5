"""Samples are nested, in order and the same on every machine; dev and train share nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row, split_dev, take
from triptych.errors import DataError

SIZES = st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n)))


def rows(n: int) -> list[Row]:
    return [Row(f"r{number}", "x", "y") for number in range(n)]


@given(SIZES, st.integers())
def test_take_is_nested_and_in_order(sizes: tuple[int, int, int], seed: int) -> None:
    n, one, other = sizes
    fewer, more = (take(rows(n), count, seed) for count in sorted((one, other)))
    assert (len(fewer), len(more)) == tuple(sorted((one, other)))
    assert {row.id for row in fewer} <= {row.id for row in more}
    for part in (fewer, more):
        assert part == [row for row in rows(n) if row in part]


def test_take_all() -> None:
    assert take(rows(5), None, 0) == take(rows(5), 5, 0) == rows(5)
    assert take([], None, 0) == []


def test_the_choice_is_pinned() -> None:
    assert [row.id for row in take(rows(20), 4, 0)] == ["r4", "r9", "r13", "r14"]
    assert [row.id for row in split_dev(rows(20), 4, 0)[1]] == ["r8", "r11", "r13", "r14"]
    assert take(rows(20), 4, 1) != take(rows(20), 4, 0)
    assert split_dev(rows(20), 4, 1) != split_dev(rows(20), 4, 0)


@given(SIZES, st.integers())
def test_train_and_dev_are_disjoint_and_in_order(sizes: tuple[int, int, int], seed: int) -> None:
    n, n_dev, _ = sizes
    everything = rows(n)
    train, dev = split_dev(everything, n_dev - 1, seed)
    assert len(dev) == n_dev - 1
    assert sorted(train + dev, key=everything.index) == everything
    assert not set(train) & set(dev)
    assert train == sorted(train, key=everything.index)
    assert dev == sorted(dev, key=everything.index)


@pytest.mark.parametrize("n", [0, -1, 6])
def test_a_number_of_rows_that_is_not_there(n: int) -> None:
    with pytest.raises(DataError) as caught:
        take(rows(5), n, 0)
    assert caught.value.found == f"{n} asked for, 5 there"
    assert "from 1 to 5" in (caught.value.expected or "")
    assert "ask for" in (caught.value.fix or "")


@pytest.mark.parametrize("n", [-1, 5, 6])
def test_a_number_of_dev_rows_that_is_not_there(n: int) -> None:
    with pytest.raises(DataError) as caught:
        split_dev(rows(5), n, 0)
    assert f"{n} asked for, 5 train rows there" == caught.value.found
    assert "from 0 to 4" in (caught.value.expected or "")
    assert caught.value.fix


def test_there_is_nothing_to_take_from_nothing() -> None:
    with pytest.raises(DataError, match="no number"):
        take([], 1, 0)
