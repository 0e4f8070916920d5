"""Which rows a step has is decided by the seed alone; how it is cut into passes loses no row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triptych.prompts import Rendered
from triptych.training.step import passes_of, rows_of_step

SIZES = {"n_rows": st.integers(1, 60), "rows_per_step": st.integers(1, 20), "seed": st.integers(0, 99)}


def epoch_of(n_rows: int, rows_per_step: int, seed: int, epoch: int = 0) -> list[list[int]]:
    per_epoch = -(-n_rows // rows_per_step)
    return [rows_of_step(epoch * per_epoch + i, n_rows, rows_per_step, seed) for i in range(per_epoch)]


@given(**SIZES, epoch=st.integers(0, 3))
def test_each_epoch_is_a_permutation_in_full_steps_but_the_last(
    n_rows: int, rows_per_step: int, seed: int, epoch: int
) -> None:
    steps = epoch_of(n_rows, rows_per_step, seed, epoch)
    assert sorted(i for step in steps for i in step) == list(range(n_rows))
    assert all(len(step) == rows_per_step for step in steps[:-1])
    assert len(steps[-1]) == n_rows - rows_per_step * (len(steps) - 1) > 0


@given(n_rows=SIZES["n_rows"], seed=SIZES["seed"], one=st.integers(1, 20), other=st.integers(1, 20))
def test_order_of_an_epoch_does_not_depend_on_the_batch(n_rows: int, seed: int, one: int, other: int) -> None:
    def order(rows_per_step: int) -> list[int]:
        return [i for step in epoch_of(n_rows, rows_per_step, seed) for i in step]

    assert order(one) == order(other)


def test_order_is_that_of_the_seed_and_the_epoch() -> None:
    first = epoch_of(40, 40, seed=0)
    assert first == epoch_of(40, 40, seed=0)
    assert first != epoch_of(40, 40, seed=1)
    assert first != epoch_of(40, 40, seed=0, epoch=1)
    # written down: another machine or version must not train in another order
    assert rows_of_step(0, 8, 8, 0) == [3, 7, 5, 0, 2, 1, 4, 6]


def row(name: int, length: int) -> Rendered:
    return Rendered(f"r{name}", tuple(range(length)), 1, 1)


@given(
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=30),
    max_rows=st.integers(1, 8),
    max_tokens=st.integers(1, 120),
)
def test_passes_hold_every_row_once_within_the_limits(lengths: list[int], max_rows: int, max_tokens: int) -> None:
    rows = [row(i, n) for i, n in enumerate(lengths)]
    passes = passes_of(rows, max_rows=max_rows, max_tokens=max_tokens)
    assert sorted(r.row_id for p in passes for r in p) == sorted(r.row_id for r in rows)
    for one in passes:
        assert 1 <= len(one) <= max_rows
        # a row longer than the bound has a pass of its own
        assert len(one) == 1 or sum(len(r.ids) for r in one) <= max_tokens


def test_passes_do_not_depend_on_the_order_given() -> None:
    rows = [row(i, n) for i, n in enumerate([5, 9, 9, 2, 7, 7])]
    assert passes_of(rows, max_rows=2, max_tokens=99) == passes_of(rows[::-1], max_rows=2, max_tokens=99)
