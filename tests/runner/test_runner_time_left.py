"""How long a run still takes, from what it has done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.data import Dataset
from triptych.grid.cells import CellSpec, grid, trainings
from triptych.grid.inputs import read_data
from triptych.records import Aggregate, CellRecord, ItemScore
from triptych.runner.folder import FinishedCell
from triptych.runner.run_log import OpenTask
from triptych.runner.time_left import Estimate, TimeLeft

PER_TOKEN = 0.01
BARE, DEMO = 50, 20


class Run:
    """An experiment on rows of equal length, in which a token always takes equally long."""

    def __init__(self, config: Any, **options: Any) -> None:
        self.config, self.now = config, 0.0
        self.cells, self.trainings = grid(config), trainings(config)
        self.data: Dataset = read_data(config, None)
        self.time_left = TimeLeft(config, self.data, clock=lambda: self.now, **options)
        self.time_left.demo_characters = 2 * DEMO  # two characters a token
        self.n_rows = len(self.data.test)

    def tokens(self, k: int) -> int:
        return self.n_rows * (BARE + DEMO * k)

    def cell(self, spec: CellSpec, cached: int = 0) -> FinishedCell:
        n_tokens = BARE + DEMO * spec.k
        items = [ItemScore(str(i), 5.0, 10, 20, n_prompt_tokens=n_tokens - 10) for i in range(self.n_rows)]
        record = CellRecord(
            cell=spec.name,
            strategy=spec.strategy,
            prompt=spec.prompt,
            prompt_sha256="",
            aggregate=Aggregate(
                ppl_mean=1, ppl_corpus=1, ppl_geometric=1, bits_per_char=None, n_rows=self.n_rows, n_tokens=10
            ),
            seconds=0.001 if cached else self.tokens(spec.k) * PER_TOKEN,
            rows_cached=cached,
        )
        return FinishedCell(record, items, [])

    def after(self, specs: Sequence[CellSpec], *going_on: OpenTask, cached: int = 0) -> Estimate | None:
        finished = {spec.name: self.cell(spec) for spec in specs}
        if cached:
            finished |= {spec.name: self.cell(spec, cached) for spec in specs[:1]}
        return self.time_left.estimate(self.cells, finished, self.trainings, {}, going_on)


@pytest.fixture
def begin(project: Callable[..., Path]) -> Callable[..., Run]:
    def of(workers: int = 1, **over: Any) -> Run:
        return Run(read_config(project(**over)), workers=workers)

    return of


NO_TRAINING = {"strategies": {"qlora": None}}


def test_nothing_is_said_before_there_is_evidence(begin: Callable[..., Run]) -> None:
    assert begin().after([]) is None


@pytest.mark.parametrize("n", [1, 3, 7])
def test_cells_that_are_left_take_as_long_as_their_tokens(begin: Callable[..., Run], n: int) -> None:
    run = begin(**NO_TRAINING)
    estimate = run.after(run.cells[:n])
    assert estimate is not None
    left = sum(run.tokens(cell.k) for cell in run.cells[n:]) * PER_TOKEN
    assert estimate.left == pytest.approx(left, rel=1e-6)
    assert estimate.until_end == pytest.approx(estimate.left)
    done = sum(run.tokens(cell.k) for cell in run.cells[:n]) * PER_TOKEN
    assert estimate.share == pytest.approx(done / (done + left))


def test_a_cell_that_goes_on_counts_by_its_rows(begin: Callable[..., Run]) -> None:
    run = begin(**NO_TRAINING)
    before = run.after(run.cells[:2])
    half = run.after(run.cells[:2], OpenTask(f"3/8 {run.cells[2].name}", 10, 5, "rows"))
    assert before is not None
    assert half is not None
    assert before.left - half.left == pytest.approx(run.tokens(run.cells[2].k) * PER_TOKEN / 2)


def test_workers_share_what_is_left_but_not_the_longest_part(begin: Callable[..., Run]) -> None:
    run = begin(workers=4, **NO_TRAINING)
    early, late = run.after(run.cells[:2]), run.after(run.cells[:-1])
    assert early is not None
    assert late is not None
    longest = run.tokens(run.cells[-1].k) * PER_TOKEN
    assert early.left / 4 <= early.until_end <= early.left / 4 + longest
    assert late.until_end == late.left > 0


def test_scores_that_were_looked_up_say_nothing_of_the_time(begin: Callable[..., Run]) -> None:
    run = begin(**NO_TRAINING)
    with_cached, without = run.after(run.cells[:3], cached=6), run.after(run.cells[:3])
    assert with_cached is not None
    assert without is not None
    assert with_cached.left == pytest.approx(without.left)


def test_a_training_s_own_steps_replace_the_guess(begin: Callable[..., Run]) -> None:
    run = begin()
    base = [cell for cell in run.cells if cell.training is None]
    guess = run.after(base)
    task = OpenTask("training", 8, 0, "steps")
    assert run.after(base, task) is not None  # seen first at step 0
    run.now, task.done = 200.0, 2
    measured = run.after(base, task)
    assert guess is not None
    assert measured is not None
    cell = run.tokens(0) * PER_TOKEN
    assert measured.left == pytest.approx(6 * 100.0 + cell)
    row = BARE * PER_TOKEN
    points = len(run.config.tune.eval_steps(8)) * (run.n_rows + len(run.data.dev)) * row
    assert guess.left == pytest.approx(8 * 3 * run.config.tune.rows_per_step * row + points + cell)


def test_only_where_nothing_is_left_all_is_done(begin: Callable[..., Run]) -> None:
    run = begin(**NO_TRAINING)
    estimate, almost = run.after(run.cells), run.after(run.cells[:-1])
    assert estimate is not None
    assert almost is not None
    assert (estimate.share, estimate.left) == (1, 0)
    assert almost.share < 1
