"""Which language texts are in, as far as prompts depend on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data.language import language_of

TEXTS = {
    "en": [
        "Great product, love it. Arrived late and the box was damaged.",
        "How do I locate my card?\nWhat is the fee when you pay from abroad?",
        "A shop sold half of its 48 clips in May. How many clips are left in the shop?",
    ],
    "zh": [
        "請把這一句翻譯成文言文：春眠不覺曉",
        "这个酒店很好，我们都喜欢。",
        "Translate into classical Chinese: "
        "春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。天亮了，鳥兒叫。昨夜風雨不停，院中花落滿地，一早起來看，不知道還剩多少。",
    ],
    "other": [
        "Wie kann ich meine Karte finden? Die Karte war so gut an dem Tag, als ich sie in Berlin hatte.",
        "Waar kan ik mijn kaart vinden? Het is een goede dag of niet, en de kaart was in de bus.",
        "Hvordan kan jeg finde mit kort? Det er i en god butik for alle, og vi har to dage til at have det hele.",
        "Comment puis-je trouver ma carte ? Il a la vie devant lui et on a une maison a Paris.",
        "Como posso encontrar o meu cartão? Eu vou a casa do meu pai a pé e me diz que não.",
        "Jak mogę znaleźć moją kartę? To jest dobry dzień i my idziemy do domu a potem to robimy.",
        "この商品はとても良いです。配送も早かったです。",
        "東京都知事選挙が行われた。結果発表。",
        "이 제품은 정말 좋아요",
        "1 + 1 = 2",
        "",
    ],
}


@pytest.mark.parametrize(
    ("language", "text"), [(language, text) for language, texts in TEXTS.items() for text in texts]
)
def test_languages(language: str, text: str) -> None:
    assert language_of([text]) == language


@given(st.permutations([*TEXTS["zh"], "Great product, love it."]))
def test_most_of_the_letters_decide_in_any_order(texts: list[str]) -> None:
    assert language_of(texts) == "zh"


@given(st.lists(st.text()))
def test_any_text_has_some(texts: list[str]) -> None:
    assert language_of(texts) in ("zh", "en", "other")
