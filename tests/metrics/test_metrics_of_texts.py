"""Each metric of texts by hand and against the library that is its reference."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from triptych.data import Row
from triptych.errors import ConfigError, DataError
from triptych.metrics.of_texts import OF_TEXTS, bleu, chrf, exact_match, f1, json_fields, last_number, number, rouge_l
from triptych.metrics.texts import check_references, score_texts

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "Paris.", "42"]), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("yes", "yes", 1),
        ("  yes \n", "yes", 1),
        ("a  b", "a b", 1),
        ("Yes", "yes", 0),
        ("yes.", "yes", 0),
        ("", "", 1),
    ],
)
def test_exact_match(text: str, reference: str, expected: float) -> None:
    assert exact_match(text, reference) == expected


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("The Cat sat.", "a cat sat", 1.0),  # case, articles and punctuation are no words
        ("cat", "cat sat", 2 * 1 * 0.5 / 1.5),
        ("cat cat", "cat sat", 0.5),  # each word counts as often as it is there
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 1.0),  # nothing is left of either
        ("春眠覺曉。", "春眠不覺曉", 2 * 1 * 0.8 / 1.8),  # by character
    ],
)
def test_f1_is_squads(text: str, reference: str, expected: float) -> None:
    assert f1(text, reference) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_f1_is_symmetric_and_one_where_texts_match(a: str, b: str) -> None:
    assert f1(a, b) == pytest.approx(f1(b, a))
    assert 0 <= f1(a, b) <= 1
    if exact_match(a, b):
        assert f1(a, b) == 1


@given(WORDS, WORDS)
def test_rouge_and_sacrebleu_are_the_libraries_own(text: str, reference: str) -> None:
    own = RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure
    assert rouge_l(text, reference) == own
    assert chrf(text, reference) == CHRF(word_order=2).sentence_score(text, [reference]).score
    assert bleu(text, reference) == BLEU(effective_order=True).sentence_score(text, [reference]).score


def test_rouge_of_chinese_is_by_character() -> None:
    assert RougeScorer(["rougeL"]).score("春眠不覺曉", "春眠覺曉")["rougeL"].fmeasure == 0  # it drops the characters
    assert rouge_l("春眠覺曉", "春眠不覺曉") == pytest.approx(2 * 1 * 0.8 / 1.8)


@given(st.text(st.characters(max_codepoint=127), max_size=30), st.text(st.characters(max_codepoint=127), max_size=30))
def test_rouge_of_ascii_is_rouge_scores_own(text: str, reference: str) -> None:
    assert rouge_l(text, reference) == RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure


def test_rouge_of_other_scripts_counts_their_words() -> None:
    assert RougeScorer(["rougeL"]).score("кот спит", "кот спит")["rougeL"].fmeasure == 0
    assert rouge_l("кот спит", "кот спит") == 1
    assert rouge_l("кот", "кот спит") == pytest.approx(2 * 1 * 0.5 / 1.5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("so 3 and 4 make 7.", "7"),
        ("#### 1,234", "1234"),
        ("it is 1,234.50 dollars", "1234.5"),
        ("-3", "-3"),
        ("\u22123.0", "-3"),
        ("１２３", "123"),
        (".5", "0.5"),
        ("2024, 10", "10"),
        ("none", None),
        ("an area of 10 m²", "10"),
        ("x²", None),
        ("pages 3-4", "4"),
        ("a loss of -$5", "-5"),
        ("about 6.0e3 of them", "6000"),
        ("12,3456", "3456"),
        ("共１，２００元", "1200"),
        ("٣", "3"),
    ],
)
def test_the_last_number(text: str, value: str | None) -> None:
    assert last_number(text) == (None if value is None else Decimal(value))


def test_number_and_json_by_hand() -> None:
    assert number("The answer is 18 eggs, so $1,018.00", "#### 1018") == 1
    assert number("I don't know", "18") == 0
    assert json_fields('{"a": 1, "b": [1, 2], "c": "x"}', '{"a": 1.0, "b": [1, 2], "c": "y"}') == pytest.approx(2 / 3)
    assert json_fields('Here:\n```json\n{"a": 1}\n```', '{"a": 1}') == 1
    assert json_fields("no JSON", '{"a": 1}') == 0
    assert json_fields('{"a": true}', '{"a": 1}') == 0
    assert json_fields("[1, 2]", "[1, 2]") == 1
    assert json_fields("[1]", '{"a": 1}') == 0
    assert json_fields('{"a": {"b": [1, {"c": 2}]}}', '{"a": {"b": [1.0, {"c": 2.0}]}}') == 1
    assert json_fields('{"a": [1]}', '{"a": [true]}') == 0
    assert json_fields('{"a": "```x```"}', '{"a": "```x```"}') == 1  # no fence around it
    assert json_fields('```JSON\n{"a": 1}', '{"a": 1}') == 1  # cut before the fence ended


def test_json_without_end_is_no_json() -> None:
    assert json_fields("[" * 100_000, '{"a": 1}') == 0
    with pytest.raises(ValueError, match="no JSON"):
        json_fields("{}", "[" * 100_000)


def rows(*outputs: str) -> list[Row]:
    return [Row(f"r{i}", "?", output) for i, output in enumerate(outputs)]


@pytest.mark.parametrize(("metric", "output"), [("number", "no number"), ("json", "{not json")])
def test_references_that_can_not_be_compared_are_named_before_anything_is_written(metric: str, output: str) -> None:
    with pytest.raises(DataError, match=r"r1"):
        check_references([metric], rows('{"a": 1}', output))
    check_references(["perplexity", "accuracy", "f1"], rows(output))


def test_values_are_by_row_and_metric() -> None:
    scores = score_texts(["accuracy", "exact_match", "f1"], rows("a cat", "dog"), ["cat", "dog"])
    assert scores.values == {"exact_match": {"r0": 0, "r1": 1}, "f1": {"r0": 1, "r1": 1}}
    assert not scores.errors
    assert set(OF_TEXTS) == {"exact_match", "f1", "rouge_l", "chrf", "bleu", "number", "json"}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, beside which the command runs."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "def same(text, reference):\n    return text == reference\n"
        "def raises(text, reference):\n    return 1 / (len(text) - 3)\n"
        "def nan(text, reference):\n    return float('nan')\n"
        "def text(text, reference):\n    return text\n"
        "def huge(text, reference):\n    return 10 ** 400\n"
        "def of_row(text, reference, row):\n    return row['topic'] == reference and row['id'] == 'r0'\n"
        "def option(text, reference, lenient=True):\n    return lenient is True\n"
        "def one(text):\n    return 1\n"
        "import numpy\n"
        "def of_numpy(text, reference):\n    return numpy.float32(0.5)\n"
        "def bool_of_numpy(text, reference):\n    return numpy.bool_(True)\n"
        "value = 3\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_function_of_the_users_counts_or_is_named_with_the_row(own: str) -> None:
    given, texts = rows("cat", "no"), ["dog", "no"]
    scores = score_texts([f"{own}:{name}" for name in ("same", "raises", "nan", "text")], given, texts)
    assert scores.values == {f"{own}:same": {"r0": 0.0, "r1": 1.0}}
    assert set(scores.errors) == {f"{own}:raises", f"{own}:nan", f"{own}:text"}
    assert "row 'r0'" in scores.errors[f"{own}:raises"] and "ZeroDivisionError" in scores.errors[f"{own}:raises"]
    assert "gave nan" in scores.errors[f"{own}:nan"] and "gave 'dog'" in scores.errors[f"{own}:text"]


def test_what_a_function_of_the_users_may_take_and_give(own: str) -> None:
    given = [Row("r0", "?", "cat", (("topic", "cat"),)), Row("r1", "?", "dog", (("topic", "cat"),))]
    names = [f"{own}:{name}" for name in ("of_row", "option", "of_numpy", "bool_of_numpy", "huge")]
    scores = score_texts(names, given, ["a", "b"])
    values = [scores.values[name] for name in names[:4]]
    assert values == [{"r0": one, "r1": two} for one, two in ((1, 0), (1, 1), (0.5, 0.5), (1, 1))]
    assert set(scores.errors) == {f"{own}:huge"}


def test_a_module_that_exits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits_at_once.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="SystemExit"):
        check_references(["exits_at_once:f"], rows("a"))


@pytest.mark.parametrize(
    ("name", "found"),
    [("missing", "no attribute"), ("value", "is of type int"), ("one", r"takes other arguments[\s\S]*one\(text\)")],
)
def test_a_function_that_is_not_there_is_refused(own: str, name: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        check_references([f"{own}:{name}"], rows("a"))
    with pytest.raises(ConfigError, match="ModuleNotFoundError"):
        check_references(["no_such_module_here:f"], rows("a"))


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_written_out_is_read_back(value: float) -> None:
    text = f"{value:.3f}"
    assert math.isclose(float(last_number(f"about {text} in all") or 0), float(text))
