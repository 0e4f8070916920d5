"""Options in place of a row's output: the same prompt for all, room for the longest, each rendered as an output is."""

from __future__ import annotations

import pytest
from test_prompts_render import DEMOS, EOS, PLAIN, Pairs

from triptych.data import Row
from triptych.errors import DataError
from triptych.prompts import render, render_options

ROW = Row("r", "which?", "cash")
OPTIONS = ("card arrival", "card", "cash")


def test_each_option_is_rendered_as_an_output_is() -> None:
    tokenizer = Pairs()
    asked = render_options(ROW, OPTIONS, PLAIN, tokenizer, answers={}, demos=DEMOS)
    assert asked.row == render(ROW, PLAIN, tokenizer, demos=DEMOS)
    for option, ids in zip(OPTIONS, asked.options, strict=True):
        alone = render(Row("r", "which?", option), PLAIN, tokenizer, demos=DEMOS)
        assert alone.ids == (*asked.row.ids[: asked.row.n_prompt], *ids)
        assert ids == (*tokenizer.encode(option), EOS)
    assert (asked.correct, asked.texts, asked.n_chars) == (2, OPTIONS, (12, 4, 4))
    assert asked.reference == asked.options[2]
    stranger = render_options(Row("r", "which?", "?"), OPTIONS, PLAIN, tokenizer, answers={})
    assert stranger.correct is None and stranger.reference not in stranger.options


def test_demonstrations_are_dropped_until_the_longest_option_fits() -> None:
    tokenizer = Pairs()
    with_three = render_options(ROW, OPTIONS, PLAIN, tokenizer, answers={}, demos=DEMOS)
    whole = with_three.row.n_prompt + max(map(len, with_three.options))
    fits = render_options(ROW, OPTIONS, PLAIN, tokenizer, answers={}, demos=DEMOS, max_tokens=whole)
    assert fits.row.demo_ids == ("d1", "d2", "d3")
    less = render_options(ROW, OPTIONS, PLAIN, tokenizer, answers={}, demos=DEMOS, max_tokens=whole - 1)
    assert (less.row.demo_ids, less.row.n_demos_dropped) == (("d1", "d2"), 1)
    # with the reference alone, which is shorter, they all fit: room is kept for every option
    assert render(ROW, PLAIN, tokenizer, demos=DEMOS, max_tokens=whole - 1).demo_ids == ("d1", "d2", "d3")
    with pytest.raises(DataError, match="longer than the model's context"):
        render_options(ROW, OPTIONS, PLAIN, tokenizer, answers={}, max_tokens=8)
