"""`data check`: what is looked for is found, in the study's own data too, and a million rows fit into 4 GiB."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row
from triptych.data.bodies import find_templates
from triptych.data.findings import odd_characters
from triptych.data.near import bands_for, jaccard, near_pairs
from triptych.data.survey import survey

STUDY = Path(__file__).parents[3] / "shared" / "hw3"


def write(path: Path, rows: Iterable[tuple[str, str]], name: str = "r") -> Path:
    objects = [{"id": f"{name}{n}", "instruction": asks, "output": says} for n, (asks, says) in enumerate(rows)]
    path.write_text(json.dumps(objects), encoding="utf-8")
    return path


# --- near


def test_likeness_is_that_of_trigrams() -> None:
    assert jaccard("abcd", "abcd") == 1
    assert jaccard("abcd", "bcde") == 1 / 3
    assert jaccard("abc", "xyz") == 0
    assert jaccard("ab", "ab") == 1


@given(st.lists(st.text("abc", max_size=12), max_size=25), st.sampled_from([0.5, 0.7, 0.9]))
def test_what_is_returned_is_exact(texts: list[str], threshold: float) -> None:
    first = {text: at for at, text in reversed(list(enumerate(texts)))}
    for pair in near_pairs(texts, threshold):
        assert pair.a < pair.b
        assert pair.jaccard == jaccard(texts[pair.a], texts[pair.b]) >= threshold
        assert texts[pair.a] != texts[pair.b]
        assert (first[texts[pair.a]], first[texts[pair.b]]) == (pair.a, pair.b)


@pytest.mark.parametrize("threshold", [pytest.param(0.3, marks=pytest.mark.slow), 0.5, 0.7, 0.9])
def test_nearly_all_pairs_are_found(threshold: float) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefghij", k=120)) for _ in range(60)]
    for _ in range(3):
        texts += [_changed(text, draw.randrange(1, 12), draw) for text in texts[:60]]
    exact = {
        (i, j)
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if texts[i] != texts[j] and jaccard(texts[i], texts[j]) >= threshold
    }
    found = {(pair.a, pair.b) for pair in near_pairs(texts, threshold)}
    assert found <= exact
    assert len(exact) > 20
    assert len(found) >= 0.97 * len(exact)


def _changed(text: str, n: int, draw: random.Random) -> str:
    letters = list(text)
    for at in draw.sample(range(len(text)), n):
        letters[at] = draw.choice("klmnop")
    return "".join(letters)


def test_bands_miss_few_at_the_threshold() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.9):
        n_bands, width = bands_for(threshold)
        assert (1 - threshold**width) ** n_bands < 0.02
        assert n_bands * width <= 126


def test_across_takes_only_pairs_from_one_side_to_the_other() -> None:
    texts = ["abcdefgh", "abcdefgx", "", "abcdefgh", "zzzzzzzz", "zzzzzzzy", ""]
    pairs = near_pairs(texts, 0.5, across=3)
    assert {(pair.a, pair.b) for pair in pairs} == {(0, 3), (1, 3)}
    assert pairs[0].jaccard == 1


@pytest.mark.slow
def test_many_equal_keys_take_no_time_that_grows_with_their_square() -> None:
    texts = [f"{'common words that all rows have in them ' * 4}{number:05d}" for number in range(6_000)]
    pairs = near_pairs(texts, 0.7)
    assert len({pair.a for pair in pairs} | {pair.b for pair in pairs}) == 6_000
    assert len(pairs) < 16 * 6_000  # of 18 million


# --- bodies


def test_templates_are_what_many_rows_share() -> None:
    texts = [f"Translate to French:\n{word}" for word in "abcdefgh"]
    texts += [f"{word}\nSay it in French\nAnswer:" for word in "ijkl"]
    texts += [f"French: {word}" for word in "mnop"]
    texts += ["a\nb", "x: y", "Translate to French:\nz\nAnswer:"]
    found = find_templates(texts)
    assert [found.body(text) for text in texts] == [*"abcdefghijklmnop", "a\nb", "x: y", "z"]


def test_a_line_that_only_repeated_rows_share_is_no_template() -> None:
    found = find_templates(["who\nare you"] * 9 + ["other"])
    assert found.body("who\nare you") == "who\nare you"


def test_a_template_alone_is_kept() -> None:
    found = find_templates([f"Translate:\n{n}" for n in range(9)])
    assert found.body("Translate:\n") == "Translate:"


# --- characters


def test_odd_characters() -> None:
    rows = [Row("a", "x\ufffdy", "z\ufffd\u200b"), Row("b", "\tfine\r\n", "é字😀"), Row("c", "\x07", None)]
    found = odd_characters(rows)
    assert set(found) == {"replacement character", "invisible characters", "control characters"}
    assert found["replacement character"].n_rows == 1
    assert found["replacement character"].code_points == {"U+FFFD": 2}
    assert found["control characters"].examples == ["c"]


# --- all of it


def test_a_clean_pair_of_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.json", [("what is one", "1"), ("name the sun", "sol")])
    test = write(tmp_path / "test.json", [("count to ten", "1 to 10")])
    found = survey(train, test)
    assert found.across is not None
    for repeats in (found.train.rows, found.train.bodies, found.train.outputs, found.across.exact, found.across.bodies):
        assert repeats.n_groups == 0
    assert found.train.near.n_pairs == found.across.near.n_pairs == 0
    assert found.train.lengths["instruction"].longest == 12


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    body = "the quick brown fox jumps over the lazy dog near the river"
    draw = random.Random(0)
    plain = [(f"To Latin:\n{''.join(draw.choices('abcdefghij', k=30))}", f"o{n * 7}") for n in range(20)]
    train = write(
        tmp_path / "train.json",
        [
            *plain,
            ("same question", "first"), ("same question", "second"),
            ("whole row", "equal"), ("whole row", "equal"),
            (f"To Latin:\n{body}", "vulpes"), (f"{body}\nin Latin", "canis"), (f"{body} bank", "flumen"),
            *((f"{n}\nin Latin", f"p{n}") for n in range(100, 104)),
            ("echo", "Echo!"), ("there", "back"), ("back", "there"), (" edge", ""),
        ],
    )  # fmt: skip
    test = write(
        tmp_path / "test.json",
        [
            ("whole row", "equal"),
            ("Same question?", "third"),
            (f"{body} side", "x"),
            ("new", "vulpes"),
            ("old", "echo"),
        ],
        name="t",
    )
    found = survey(train, test, count_tokens=lambda texts: [len(text.split()) for text in texts])
    file, across = found.train, found.across
    assert (file.rows.n_groups, file.rows.n_rows) == (1, 2)
    assert {group.text for group in file.instructions.examples} == {"same question", "whole row"}
    assert {group.n_rows for group in file.bodies.examples} == {2}
    assert file.bodies.n_groups == 3
    assert (file.near.n_pairs, file.near.n_rows) == (1, 2)
    assert file.near.examples[0][:2] == ("r24", "r26")
    assert (file.n_copies, file.n_empty_outputs, file.n_padded, file.n_without_output) == (1, 1, 1, 0)
    assert file.flipped.n_rows == 2
    assert file.lengths["output tokens"].longest == 1
    assert found.templates == ("To Latin:", "in Latin")
    assert across is not None
    assert across.exact.examples[0].ids == ("t0", "r22", "r23")
    assert [group.ids[0] for group in across.instructions.examples] == ["t1"]
    assert {group.ids[0] for group in across.bodies.examples} == {"t0", "t1"}
    assert {group.ids[0] for group in across.outputs.examples} == {"t0", "t3", "t4"}
    assert {example[0] for example in across.near.examples} == {"t0", "t1", "t2"}


def test_a_file_without_outputs(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text('[{"instruction": "a"}, {"instruction": "b"}]')
    found = survey(path)
    assert found.train.n_without_output == 2
    assert found.train.outputs.n_groups == found.train.rows.n_groups == 0
    assert set(found.train.lengths) == {"instruction"}


@pytest.mark.skipif(not STUDY.is_dir(), reason="the study's data is not beside the repository")
def test_the_studys_data_holds_what_its_notes_list() -> None:
    """field-notes/assignment.md, section 3."""
    start = time.perf_counter()
    found = survey(STUDY / "train.json", STUDY / "public_test.json")
    assert time.perf_counter() - start < 30
    train, across = found.train, found.across
    assert (train.n_rows, train.n_empty_outputs) == (10_000, 0)
    assert (train.instructions.n_groups, train.instructions.n_rows) == (1, 2)
    assert "詔可" in train.instructions.examples[0].text
    assert train.rows.n_groups == 0
    assert train.bodies.n_rows - train.bodies.n_groups == 11
    assert train.outputs.n_rows - train.outputs.n_groups == 8
    assert 144 <= train.n_copies <= 175
    assert train.near.n_pairs >= 1
    assert len(found.templates) >= 16
    assert across is not None
    assert (across.exact.n_groups, across.instructions.n_groups) == (0, 0)
    assert [group.text.split("\n")[-1] for group in across.bodies.examples] == ["何則？"]
    assert {group.text for group in across.outputs.examples} == {"詔可。", "從之。"}
    assert across.near.n_pairs >= 1


@pytest.mark.slow
def test_a_million_rows_fit_into_4_gib(tmp_path: Path) -> None:
    code = """
import json, random, resource, sys
from pathlib import Path
path, draw = Path(sys.argv[1]), random.Random(0)
words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
heads = ["Translate to Latin:", "In Latin, please:", "Say this in Latin"]
with path.open("w") as file:
    for n in range(1_000_000):
        body = " ".join(draw.choices(words, k=8)) if n % 1000 or not n else body + " x"
        row = {"id": f"row-{n}", "instruction": f"{heads[n % 3]}\\n{body}", "output": f"o{n * 7919 % 1000003}"}
        file.write(json.dumps(row) + "\\n")
from triptych.data.survey import survey
found = survey(path)
assert found.train.n_rows == 1_000_000
assert found.train.near.n_pairs >= 900, found.train.near
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    path = tmp_path / "rows.jsonl"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 4 * 1024 * 1024, f"{int(done.stdout) / 2**20:.2f} GiB"
