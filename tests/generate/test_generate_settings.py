"""Settings that make no sense are refused."""

from __future__ import annotations

from typing import Any

import pytest

from triptych.config.read import from_options
from triptych.errors import ConfigError
from triptych.generate.settings import GenerationSettings


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"max_new_tokens": 0}, "--max-new-tokens"),
        ({"max_new_ratio": 0.0}, "--max-new-ratio"),
        ({"max_new_ratio": float("nan")}, "--max-new-ratio"),
        ({"temperature": -1.0}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p"),
        ({"temperature": 1.0, "top_p": 1.1}, "--top-p"),
        ({"temperature": 1.0, "top_k": -1}, "--top-k"),
        ({"beams": 0}, "--beams"),
        ({"no_repeat_ngram": -1}, "--no-repeat-ngram"),
        ({"no_repeat_ngram": 1}, "--no-repeat-ngram"),
        ({"top_p": 0.5}, "--top-p"),
        ({"top_k": 5}, "--top-k"),
        ({"beams": 2, "temperature": 1.0}, "--beams"),
        ({"stop_patterns": ("(",)}, "--stop-patterns"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_options(GenerationSettings, **options)
    assert f"where: {where}" in str(error.value)


def test_the_default_is_greedy() -> None:
    assert GenerationSettings().record() == {
        "max_new_tokens": 256,
        "max_new_ratio": None,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "beams": 1,
        "no_repeat_ngram": 0,
        "seed": 0,
        "stop_patterns": [],
    }
