"""The file in the making: every line counts, a torn one doesn't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.errors import RunChangedError
from triptych.generate.resume_file import PartFile, peek
from triptych.generate.settings import Generated

FACTS = {"model": {"dtype": "float32"}, "generation": {"beams": 1, "stop_patterns": ["a"]}}
ROWS = [
    Generated("a", "春\n眠", 3, "eos", (1, 2, 3)),
    Generated("b", "", 1, "length", (4,)),
    Generated("c", '"', 1, "eos"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sub" / "p.jsonl.part"
    part = PartFile.begin(path, FACTS, {"threads": 2})
    for row in ROWS:
        part.add(row)
    part.close()
    return path


def test_rows_come_back_as_they_were(path: Path) -> None:
    part = PartFile.resume(path, FACTS)
    assert part is not None
    assert (part.runtime_choices, list(part.known.values())) == ({"threads": 2}, ROWS)
    assert peek(path) == {"triptych": "predictions", "format": 1, "facts": FACTS, "chosen": {"threads": 2}}
    part.close()
    path.unlink()
    assert PartFile.resume(path, FACTS) is None
    assert peek(path) is None


def test_a_file_torn_at_any_byte_keeps_its_whole_lines_and_goes_on(path: Path) -> None:
    content = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(content) if byte == 10]
    for size in range(len(content)):
        path.write_bytes(content[:size])
        part = PartFile.resume(path, FACTS)
        n_whole = sum(end <= size for end in ends)
        if n_whole == 0:
            assert part is None
            continue
        assert part is not None
        assert list(part.known.values()) == ROWS[: n_whole - 1]
        for row in ROWS[n_whole - 1 :]:
            part.add(row)
        part.close()
        assert path.read_bytes() == content


def test_other_settings_are_refused_by_name(path: Path) -> None:
    before = path.read_bytes()
    other = {"model": {"dtype": "bfloat16"}, "generation": {"beams": 2, "stop_patterns": ["a"]}}
    with pytest.raises(RunChangedError) as error:
        PartFile.resume(path, other)
    message = str(error.value)
    assert "model.dtype: float32 -> bfloat16" in message
    assert "generation.beams: 1 -> 2" in message
    assert "stop_patterns" not in message
    assert "--fresh" in message
    assert path.read_bytes() == before


def test_another_file_is_refused_and_left(path: Path) -> None:
    for content in ('{"id": "a"}\n', "[1]\n", '{"triptych": "predictions", "format": 2, "facts": {}}\n'):
        path.write_text(content)
        with pytest.raises(RunChangedError, match="no file of predictions"):
            PartFile.resume(path, FACTS)
        assert path.read_text() == content


def test_two_can_not_write_one_file(path: Path) -> None:
    part = PartFile.resume(path, FACTS)
    assert part is not None
    before = path.read_bytes()
    for again in (lambda: PartFile.resume(path, FACTS), lambda: PartFile.begin(path, FACTS, {})):
        with pytest.raises(RunChangedError, match="another process"):
            again()
    assert path.read_bytes() == before
    part.close()
    begun = PartFile.begin(path, FACTS, {})
    assert len(path.read_bytes().splitlines()) == 1
    begun.close()
    assert not path.exists(), "a file without rows is left"


def test_lines_are_json(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[1] == {"id": "a", "output": "春\n眠", "n_tokens": 3, "stopped_by": "eos", "ids": [1, 2, 3]}
