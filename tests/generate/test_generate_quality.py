"""chrF++ and BLEU are sacrebleu's, and comparable."""

from __future__ import annotations

import statistics

import pytest
import sacrebleu

from triptych.generate.quality import measure_quality, tokenize_for

WANTED = ["春眠不覺曉，處處聞啼鳥。", "夜來風雨聲，花落知多少？", "床前明月光"]
WRITTEN = ["春眠不覺曉，到處聞鳥啼。", "夜來風雨聲，花落知多少？", ""]


def test_scores_are_sacrebleus() -> None:
    quality = measure_quality(WRITTEN, WANTED)
    assert quality.chrf == pytest.approx(sacrebleu.corpus_chrf(WRITTEN, [WANTED], word_order=2).score)
    assert quality.bleu == pytest.approx(sacrebleu.corpus_bleu(WRITTEN, [WANTED], tokenize="zh").score)
    rows = [sacrebleu.sentence_chrf(a, [b], word_order=2).score for a, b in zip(WRITTEN, WANTED, strict=True)]
    assert quality.row_chrf == pytest.approx(rows)
    assert 0 < quality.row_chrf[0] < quality.row_chrf[1] == 100
    assert quality.row_chrf[2] == 0
    assert quality.chrf != pytest.approx(statistics.mean(rows))  # a corpus score is no mean of rows


def test_signatures_say_what_was_computed() -> None:
    quality = measure_quality(WRITTEN, WANTED)
    assert "nc:6|nw:2" in quality.chrf_signature
    assert "tok:zh" in quality.bleu_signature
    for signature in (quality.chrf_signature, quality.bleu_signature):
        assert f"version:{sacrebleu.__version__}" in signature
    assert quality.record()["n_rows"] == 3


def test_equal_texts_are_100_and_foreign_ones_0() -> None:
    same = measure_quality(WANTED, WANTED)
    assert (same.chrf, same.bleu) == (pytest.approx(100), pytest.approx(100))
    other = measure_quality(["xyz"] * 3, WANTED)
    assert (other.chrf, other.bleu) == (0, 0)


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (WANTED, "zh"),
        (["the cat sat"], "13a"),
        (["The poem 春眠 is old and short"], "13a"),
        (["春眠不覺曉 (Meng)"], "zh"),
        (["123", "?"], "13a"),
    ],
)
def test_the_tokenizer_follows_the_references(references: list[str], expected: str) -> None:
    assert tokenize_for(references) == expected


def test_what_can_not_be_compared() -> None:
    for texts, wanted in ((["a"], ["a", "b"]), ([], [])):
        with pytest.raises(ValueError, match="can't be compared"):
            measure_quality(texts, wanted)
