"""Which rows share what: the tree and its batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.likelihood.plan import BRANCH_SAVES, Branch, batches, plan_branches
from triptych.prompts import Rendered


def row(prompt: str, output: str = "x", name: str = "") -> Rendered:
    ids = tuple(map(ord, prompt + output))
    return Rendered(name, ids, len(prompt), len(output))


def walk(branch: Branch, parent: Branch | None = None) -> Iterator[tuple[Branch, Branch | None]]:
    yield branch, parent
    for child in branch.children:
        yield from walk(child, branch)


def test_a_small_tree_by_hand() -> None:
    rows = [row("abcdeF"), row("abcdeG", "yy"), row("abQ"), row("abcZ", "z")]
    root = plan_branches(rows, saves=1)
    assert (root.start, root.end, root.rows) == (0, 2, [2])  # "ab": row 2 keeps its last prompt token, Q
    (child,) = root.children
    assert (child.start, child.end, child.rows) == (2, 3, [3])  # "c"
    (grandchild,) = child.children
    assert (grandchild.start, grandchild.end, grandchild.rows) == (3, 5, [0, 1])  # "de"
    assert grandchild.ids[:5] == tuple(map(ord, "abcde"))
    assert grandchild.children == []


def test_a_branch_must_save_its_price() -> None:
    rows = [row("a" * 100 + "b" * 50 + c) for c in "12345"] + [row("a" * 100 + c) for c in "67"]
    # four rows spared 50 tokens each: 200
    assert [b.end for b, _ in walk(plan_branches(rows, saves=200))] == [100, 150]
    assert [b.end for b, _ in walk(plan_branches(rows, saves=201))] == [100]
    assert BRANCH_SAVES == 384
    assert [b.end for b, _ in walk(plan_branches(rows))] == [100]


def test_prefix_ends_before_the_last_prompt_token() -> None:
    same = [row("abcd", "x"), row("abcd", "y"), row("abcd", "x")]
    root = plan_branches(same, saves=1)
    assert (root.end, sorted(root.rows), root.children) == (3, [0, 1, 2], [])
    short = plan_branches([row("ab", "cdef"), row("abcd", "ef")], saves=1)  # the same ids, other spans
    assert short.end == 1


def test_prompts_alike_and_outputs_alike_share_prompts_only() -> None:
    rows = [row("abc", "long output"), row("abc", "long output"), row("abd", "long output")]
    assert all(branch.end <= 2 for branch, _ in walk(plan_branches(rows, saves=1)))


def test_nothing_in_common() -> None:
    root = plan_branches([row("abc"), row("xyz"), row("m")], saves=1)
    assert (root.start, root.end, sorted(root.rows), root.children) == (0, 0, [0, 1, 2], [])


def test_one_row_has_no_prefix() -> None:
    root = plan_branches([row("abc")], saves=1)
    assert (root.start, root.end, root.rows, root.children) == (0, 0, [0], [])


def test_prompt_of_one_token() -> None:
    root = plan_branches([row("a"), row("abc"), row("abd")], saves=1)
    assert root.end == 0
    assert sorted(i for b, _ in walk(root) for i in b.rows) == [0, 1, 2]


texts = st.text("ab", min_size=1, max_size=14)


@given(st.lists(st.tuples(texts, st.text("abe", min_size=1, max_size=5)), min_size=1, max_size=24), st.integers(1, 12))
def test_every_tree_is_true(pairs: list[tuple[str, str]], saves: int) -> None:
    rows = [row(*pair) for pair in pairs]
    seen: list[int] = []
    for branch, parent in walk(plan_branches(rows, saves=saves)):
        assert branch.start == (parent.end if parent else 0)
        assert branch.end > branch.start or parent is None
        below = [i for b, _ in walk(branch) for i in b.rows]
        assert below
        for i in below:
            assert rows[i].ids[: branch.end] == branch.ids[: branch.end]  # a true common prefix
            assert branch.end <= rows[i].n_prompt - 1  # which leaves the last prompt token
        if parent is not None:
            assert (len(below) - 1) * (branch.end - parent.end) >= saves
        seen += branch.rows
    assert sorted(seen) == list(range(len(rows)))


@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=12))
def test_the_root_takes_all_that_all_share(pairs: list[tuple[str, str]]) -> None:
    rows = [row(*pair) for pair in pairs]
    common = 0
    while common < min(r.n_prompt - 1 for r in rows) and len({r.ids[common] for r in rows}) == 1:
        common += 1
    assert plan_branches(rows, saves=1).end == common


def test_batches_by_hand() -> None:
    lengths = [5, 9, 3, 7, 7]
    # longest first: 9 | 7 + 7 | 5 + 3
    assert list(batches(range(5), lengths, 0, budget=14)) == [[1], [3, 4], [0, 2]]
    assert list(batches(range(5), lengths, 0, budget=1000)) == [[1, 3, 4, 0, 2]]
    assert list(batches([4, 2], lengths, 0, budget=1000)) == [[4, 2]]
    assert list(batches([], lengths, 0, budget=10)) == []


def test_one_row_over_budget_is_still_computed() -> None:
    assert list(batches(range(3), [100, 2, 2], 50, budget=5)) == [[0], [1], [2]]
    assert list(batches([0], [100], 10_000, budget=1)) == [[0]]


def test_a_long_prefix_bounds_the_rows_beside_it() -> None:
    # 8 x 100 keys: rows of 10 behind a prefix of 190 take 200 each
    assert [len(b) for b in batches(range(10), [10] * 10, 190, budget=100)] == [4, 4, 2]


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(0, 80), st.integers(1, 200))
def test_batches_hold_every_row_once_and_keep_the_budget(lengths: list[int], n_prefix: int, budget: int) -> None:
    rows = list(range(len(lengths)))
    made = list(batches(rows, lengths, n_prefix, budget=budget))
    assert sorted(i for batch in made for i in batch) == rows
    assert made == list(batches(rows[::-1], lengths, n_prefix, budget=budget))
    for batch in made:
        assert batch
        if len(batch) > 1:
            assert sum(lengths[i] for i in batch) <= budget
            assert len(batch) * (n_prefix + max(lengths[i] for i in batch)) <= 8 * budget


@pytest.mark.parametrize("saves", [1, 50, 384])
def test_many_rows_of_one_prompt(saves: int) -> None:
    rows = [row("p" * 60 + f"task{i % 3}: " + f"{i:03}", "out") for i in range(60)]
    root = plan_branches(rows, saves=saves)
    assert root.end == 64  # "ppp…task"
    assert sorted(i for b, _ in walk(root) for i in b.rows) == list(range(60))
