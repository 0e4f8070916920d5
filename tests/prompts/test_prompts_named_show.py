"""What `triptych prompts show` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.data import read_rows, sample_folder
from triptych.errors import ConfigError, TemplateError
from triptych.prompts import catalogue, find_template, show_on_sample

ROW = read_rows(str(sample_folder() / "test.json"))[0]


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_prompt_can_be_shown(name: str) -> None:
    for k in (0, 2):
        shown = show_on_sample(name, k)
        assert shown.startswith(f"prompt: {name}\n")
        assert ROW.instruction in shown
        assert ROW.target() in shown
        assert find_template(name).sha256 in shown
        assert shown.count("sample-train-") == k


def test_a_plain_prompt_is_shown_to_the_letter() -> None:
    assert f"--- prompt\n{find_template('emotional').prompt(ROW.instruction)}\n" in show_on_sample("emotional")


def test_turns_are_shown_by_role() -> None:
    shown = show_on_sample("multiturn-zh", 1)
    roles = [line.removeprefix("--- ") for line in shown.splitlines() if line.startswith("--- ")]
    assert roles == ["system", "user", "assistant", "user", "assistant, which is scored"]


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("zero_shot: '{instruction} =>'\n", encoding="utf-8")
    assert f"--- prompt\n{ROW.instruction} =>\n" in show_on_sample(str(tmp_path / "mine.yaml"))
    assert f"--- prompt\nQ {ROW.instruction}\n" in show_on_sample("Q {instruction}")


def test_a_prompt_that_is_not_there() -> None:
    with pytest.raises(TemplateError) as caught:
        show_on_sample("emotinal")
    message = str(caught.value)
    assert "where: prompt 'emotinal'" in message
    assert "did you mean `emotional`?" in message
    assert "--template" in message  # for `score`
    assert "`prompts:`" in message  # for `run`


def test_the_place_that_names_a_prompt_can_be_said() -> None:
    with pytest.raises(TemplateError, match=r"where: strategies\.zero_shot\.prompts"):
        find_template("nothing like it", where="strategies.zero_shot.prompts")


def test_more_demonstrations_than_the_sample_has() -> None:
    with pytest.raises(ConfigError, match="than the bundled sample has"):
        show_on_sample("default", 10_000)
