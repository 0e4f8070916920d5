"""Outputs that are classes, by hand."""

from __future__ import annotations

import pytest

from triptych.metrics.options import MOST, are_classes


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"good": 1, "bad": 3}, True),
        ({"good": 1, "bad": 2}, False),  # 1.5 rows each
        ({"good": 9}, False),  # nothing to choose between
        ({"good": 9, "": 9}, False),  # an empty output is no option
        ({}, False),
        ({f"class {n}": 2 for n in range(MOST)}, True),
        ({f"class {n}": 2 for n in range(MOST + 1)}, False),
        ({f"text {n}": 1 for n in range(50)}, False),
    ],
)
def test_few_outputs_that_repeat_are_classes(outputs: dict[str, int], expected: bool) -> None:
    assert are_classes(outputs) == expected
