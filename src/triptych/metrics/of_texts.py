"""What one text is worth beside its reference: a function for each metric of texts that is ours or a library's.

exact_match   1 if both are the same, spaces at the ends and runs of spaces aside
f1            SQuAD's (Rajpurkar et al. 2016): overlap of words, without case, punctuation and articles;
              of characters where the reference is Chinese
rouge_l       ROUGE-L's F (Lin 2004), package rouge-score, without stemming; by character for Chinese, and letters of
              all scripts count
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

import regex

from triptych.data.language import in_chinese_characters

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_TOKEN = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_NUMBER = re.compile(
    r"""(?P<sign>(?<!\w)[-+\u2212])?            # the dash of `3-4` is no sign
        [$€£¥]?
        (?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
        (?P<power>[eE][-+]?\d{1,3}(?!\w))?""",
    re.VERBOSE,
)
_FULL_WIDTH = re.compile(r"[－＋]?[０-９][０-９，．]*")
_FENCE = re.compile(r"```(?:json)?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
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

    return RougeScorer(["rougeL"], tokenizer=_Tokenizer(_characters if chinese else _tokens))


class _Tokenizer:
    """What rouge-score cuts texts with: its own tokenizer takes all letters but a-z for spaces, so that every Russian
    text would be worth 0. On texts of ASCII alone both are the same.
    """

    def __init__(self, cut: Callable[[str], list[str]]) -> None:
        self.tokenize = cut


def _tokens(text: str) -> list[str]:
    return [str(token) for token in _TOKEN.findall(text.lower())]


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
    """The last number of a text: `1,234.50`, `-3`, `-$5`, `6e3`, `#### 42`, full-width digits; None without any."""
    plain = _FULL_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    found = list(_NUMBER.finditer(plain))
    if not found:
        return None
    sign, digits, power = found[-1].group("sign", "digits", "power")
    try:
        return Decimal(("-" if sign in ("-", "\u2212") else "") + digits.replace(",", "") + (power or ""))
    except InvalidOperation:  # no decimal number after all
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
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the reference is no JSON ({error})") from error
    for part in (text, *_FENCE.findall(text)):
        try:
            return _share(json.loads(part), expected)
        except (ValueError, RecursionError):  # a model that repeats itself writes `[[[[` to the end
            continue
    return 0.0


def _share(found: Any, expected: Any) -> float:
    if not isinstance(expected, dict) or not expected:
        return float(_same(found, expected))
    if not isinstance(found, dict):
        return 0.0
    return sum(key in found and _same(found[key], value) for key, value in expected.items()) / len(expected)


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 is 1.0, true is no 1, and the order of keys is nothing."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


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
