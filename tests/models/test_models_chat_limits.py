"""A chat template that loops or writes without end is refused within seconds; others write what they wrote."""

from __future__ import annotations

import time

import pytest
from chat_tokenizers import TEMPLATES, chat_tokenizer

from triptych.errors import ModelError
from triptych.models.chat import ChatFormat

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}%s{% endfor %}{% endfor %}"
DOUBLED = "{% set n = namespace(t='ab') %}{% for a in range(99) %}{% set n.t = n.t %s n.t %}{% endfor %}"
ENDLESS = {
    "loops": LOOP.replace("%s", ""),
    "loops that write": LOOP.replace("%s", "xxxxxxxxxx"),
    "a text that doubles": DOUBLED.replace("%s", "~"),
    "a sum that doubles": DOUBLED.replace("%s", "+"),
    "a list that doubles": DOUBLED.replace("%s", "+").replace("'ab'", "[1]"),
    "a macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a product": "{{ 'a' * 9999999999 }}",
    "a power": "{{ 9 ** 99999999 }}",
    "a wide text": "{{ 'a'.ljust(9999999999) }}",
    "a wide filter": "{{ 'a' | center(9999999999) }}",
    "a wide format": "{{ '{:>9999999999}'.format(1) }}{{ '%9999999999d' % 1 }}",
    "a replacement": "{% set t = 'a' * 99999 %}{{ t.replace('a', t) }}",
    "a replacing filter": "{% set t = 'a' * 99999 %}{{ t | replace('a', t) }}",
    "a joined list": "{% set t = 'a' * 99999 %}{{ t.join([t] * 9999) }}",
    "a block": "{% set t = 'a' * 999999 %}{% set u %}{% for i in range(99999) %}{{ t }}{% endfor %}{% endset %}{{ u }}",
    "a deep one": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a long one": "x" * 2_000_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.models.chat_limits._SECONDS", 0.2)
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = ENDLESS[name] + TEMPLATES["chatml"]
    begin = time.monotonic()
    with pytest.raises(ModelError, match="chat template can't be used") as caught:
        ChatFormat(tokenizer, 0).prompt([("user", "a")])
    assert time.monotonic() - begin < 2
    assert len(str(caught.value)) < 2000


def test_what_a_template_may_do() -> None:
    tokenizer = chat_tokenizer("chatml")
    extra = (
        "{% macro m(x) %}{{ x | indent(2) | trim }}{% endmacro %}{% set n = namespace(a='') %}"
        "{% for i in range(3) %}{% set n.a = n.a ~ (i + 1) %}{% if loop.index == 2 %}{% continue %}{% endif %}"
        "{% else %}none{% endfor %}{{ m(n.a) }}{{ '-' * 3 }}{{ '%s: %5.1f' % ('**a**', 2) }}{{ '{:>4}'.format(7) }}"
        "{{ [1, 2] | join(', ') }}{{ {'a': 'é'} | tojson(indent=1) }}"
        "{{ 'aXb'.replace('X', '--').split('--') | length }}"
        "{{ messages[:1] | map(attribute='role') | list | join }}{{ 2 ** 8 }}"
        "{{ 7 % 4 }}{% filter upper %}q{% endfilter %}"
    )
    tokenizer.chat_template = extra + TEMPLATES["chatml"]
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": text} for role, text in turns]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ChatFormat(tokenizer, 0).prompt(turns) == list(theirs)
