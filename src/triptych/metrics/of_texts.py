"""What one text is worth beside its reference: a function for each metric of texts that is ours or a library's.

exact_match   1 if both are the same, spaces at the ends and runs of spaces aside
f1            SQuAD's (Rajpurkar et al. 2016): overlap of words, without case, punctuation and articles;
              of characters where the reference is Chinese
rouge_l       ROUGE-L's F (Lin 2004), package rouge-score, without stemming; by character for Chinese
chrf          chrF++ of the row (Popovic 2017), sacrebleu, 0 to 100
bleu          sentence BLEU, sacrebleu's effective order, 0 to 100
number        1 if the last number of both is the same
json          share of the reference's fields that are there and equal
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from triptych.data.language import in_chinese_characters

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+\u2212]?\.\d+")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_PUNCTUATION = frozenset(string.punctuation)


def exact_match(text: str, reference: str) -> float:
    """1 or 0."""
    return float(" ".join(text.split()) == " ".join(reference.split()))


def f1(text: str, reference: str) -> float:
    """SQuAD's F1; two texts without any word are alike."""
    cut = _characters if in_chinese_characters(reference) else _words
    found, expected = cut(text), cut(reference)
    if not found or not expected:
        return float(found == expected)
    shared = sum((Counter(found) & Counter(expected)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    """Lower case, then no punctuation, then no articles: SQuAD's order."""
    plain = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return _ARTICLES.sub(" ", plain).split()


def _characters(text: str) -> list[str]:
    """Without spaces and any punctuation."""
    return [c for c in text.lower() if not c.isspace() and not unicodedata.category(c).startswith("P")]


def rouge_l(text: str, reference: str) -> float:
    """The F-measure of the longest common subsequence."""
    return float(_rouge(in_chinese_characters(reference)).score(reference, text)["rougeL"].fmeasure)


@cache
def _rouge(chinese: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_ByCharacter()) if chinese else RougeScorer(["rougeL"])


class _ByCharacter:
    """What rouge-score cuts a Chinese text with: its own tokenizer drops all but a-z and digits."""

    def tokenize(self, text: str) -> list[str]:
        return _characters(text)


def chrf(text: str, reference: str) -> float:
    """chrF++ of one text."""
    return float(_sacrebleu("chrf", False).sentence_score(text, [reference]).score)


def bleu(text: str, reference: str) -> float:
    """BLEU of one text, of the n-gram orders that it is long enough for."""
    return float(_sacrebleu("bleu", in_chinese_characters(reference)).sentence_score(text, [reference]).score)


@cache
def _sacrebleu(name: str, chinese: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if name == "chrf":
        return CHRF(word_order=2)
    return BLEU(tokenize="zh" if chinese else "13a", effective_order=True)


def last_number(text: str) -> Decimal | None:
    """The last number of a text: `1,234.50`, `-3`, `#### 42`, full-width digits; None without any."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    try:
        return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None
    except InvalidOperation:  # no decimal digits: other scripts' are read, superscripts are not
        return None


def number(text: str, reference: str) -> float:
    """1 if the last number of both is the same; ValueError for a reference without a number."""
    expected = last_number(reference)
    if expected is None:
        raise ValueError("the reference holds no number")
    return float(last_number(text) == expected)


def json_fields(text: str, reference: str) -> float:
    """Share of the reference's fields that the text has with the same value; ValueError where the reference is no JSON.

    A reference that is no object is one field. A text that is no JSON, alone or in a code fence, has none.
    """
    try:
        expected = json.loads(reference)
    except ValueError as error:
        raise ValueError(f"the reference is no JSON ({error})") from error
    fenced = _FENCE.search(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError:
        return 0.0
    if not isinstance(expected, dict) or not expected:
        return float(_same(found, expected))
    if not isinstance(found, dict):
        return 0.0
    return sum(key in found and _same(found[key], value) for key, value in expected.items()) / len(expected)


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: true is no 1."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True) or (
        isinstance(a, int | float) and isinstance(b, int | float) and type(a) is not bool is not type(b) and a == b
    )


OF_TEXTS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "f1": f1,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "bleu": bleu,
    "number": number,
    "json": json_fields,
}
"""Metric -> its value of a text and a reference. ValueError: the reference can't be used."""
