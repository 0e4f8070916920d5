"""What is shown is what the model sees: every token once, in order, scored ones apart; nothing a terminal obeys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.checks.adapters import adapter_facts
from triptych.checks.preview import ShownRow, lines_of, preview, visible
from triptych.config.model import ModelConfig
from triptych.config.read import read_config
from triptych.data import Row
from triptych.errors import ConfigError, ModelError
from triptych.models import TokenizerProfile, load_profile
from triptych.prompts import render, template_from_text
from triptych.runner.folder import RunFolder

Project = Callable[..., Path]


@pytest.fixture(scope="module")
def profile(model_folder: Path) -> TokenizerProfile:
    return load_profile(ModelConfig(name=str(model_folder)))


def shown(instruction: str, output: str, profile: TokenizerProfile) -> ShownRow:
    rendered = render(Row("r", instruction, output), template_from_text("問{instruction}答"), profile)
    return ShownRow.of("cell", rendered, profile)


@given(st.text(min_size=1, max_size=60), st.text(max_size=40), st.integers(1, 30))
def test_lines_hold_every_token_once_and_scored_ones_apart(
    profile: TokenizerProfile, instruction: str, output: str, width: int
) -> None:
    row = shown(instruction, output, profile)
    lines = lines_of(row, width)
    assert tuple(i for line in lines for i in line.ids) == row.rendered.ids
    assert all(line.ids for line in lines)
    at = 0
    for line in lines:
        assert line.scored == (at >= row.rendered.n_prompt)
        at += len(line.ids)
        assert line.scored or at <= row.rendered.n_prompt
    assert all(line.text == visible(line.text) for line in lines)
    assert "".join(line.text for line in lines) == "".join(visible(piece.text) for piece in row.pieces)


def test_newlines_are_drawn_and_end_a_line(profile: TokenizerProfile) -> None:
    lines = lines_of(shown("a\nb", "c", profile), 100)
    assert [(line.text, line.scored) for line in lines] == [("<bos>問a↵", False), ("b答", False), ("c<eos>", True)]
    assert lines[2].ids == (66, 257) or len(lines[2].ids) == 2


def test_what_a_terminal_would_obey_is_spelled() -> None:
    assert visible("\x1b[31mred\u202e\u200b\r") == "\\u{1b}[31mred\\u{202e}\\u{200b}␍"
    assert visible("文言\t文") == "文言→文"


def test_a_row_of_every_kind_of_cell_and_of_the_training(project: Project) -> None:
    found = preview(read_config(project()))
    assert [row.cell for row in found.rows] == [
        "zero_shot/default",
        "zero_shot/emotional",
        *(f"few_shot/default/k={k}/draw=item/seed=0" for k in (1, 2, 3)),
        "qlora/default",
        "training default/train_seed=0",
    ]
    assert [len(row.rendered.demo_ids) for row in found.rows] == [0, 0, 1, 2, 3, 0, 0]
    assert all(check.passed for check in found.checks)


def test_rows_are_spread_over_the_test_set(project: Project) -> None:
    found = preview(read_config(project()), rows=3, cell="zero_shot/default")
    assert [(row.cell, row.rendered.row_id) for row in found.rows] == [
        ("zero_shot/default", name) for name in ("test-0", "test-2", "test-4")
    ]
    assert preview(read_config(project()), rows=0).rows == ()


def test_json_says_all_of_it(project: Project) -> None:
    value = json.loads(json.dumps(preview(read_config(project())).as_json()))
    assert value["passed"] is True
    assert len(value["checks"]) == 10
    assert value["max_tokens"] == 2048
    row = value["rows"][2]
    assert row["demo_ids"][0].startswith("train-")
    assert sum(len(piece["ids"]) for piece in row["pieces"]) == row["n_tokens"]
    assert sum(len(piece["ids"]) for piece in row["pieces"] if piece["scored"]) == row["n_scored"]
    assert row["pieces"][0] == {"text": "<bos>", "ids": [256], "scored": False}
    assert row["pieces"][-1] == {"text": "<eos>", "ids": [257], "scored": True}


def test_the_models_context_bounds_the_rendering(project: Project, model_folder: Path) -> None:
    assert preview(read_config(project(), ["max_tokens=100000"])).max_tokens == 4096


def test_no_weights_are_needed(project: Project, model_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model_folder.iterdir():
        if file.suffix == ".json":
            (bare / file.name).write_bytes(file.read_bytes())
    assert len(preview(read_config(project(), [f"model.name={bare}"])).rows) == 7


def test_cells_whose_demonstrations_the_model_chooses_are_named_not_shown(project: Project) -> None:
    sets = ["strategies.few_shot.select=[random, embedding]", "strategies.few_shot.k=1"]
    found = preview(read_config(project(), sets))
    assert found.left_out == ("few_shot/default/k=1/select=embedding/order=nearest-last",)
    assert "the model chooses" in next(c.detail for c in found.checks if c.name.startswith("demonstrations"))
    with pytest.raises(ConfigError, match="chosen by the model"):
        preview(read_config(project(), sets), cell=found.left_out[0])


def test_an_unknown_cell_is_refused_with_the_nearest(project: Project) -> None:
    with pytest.raises(ConfigError, match="did you mean `zero_shot/emotional`"):
        preview(read_config(project()), cell="zero_shot/emotionel")


def test_the_runs_own_adapter_is_found(undisturbed: Path) -> None:
    config = read_config(undisturbed.parent / "experiment.yaml")
    found = preview(config, rows=0, adapter_of=RunFolder(undisturbed).adapter_of)
    assert next(c.detail for c in found.checks if c.name == "prompt is the adapter's") == "1 adapter, same hash"
    other = read_config(undisturbed.parent / "experiment.yaml", ["strategies.qlora.prompt=emotional"])
    checks = preview(other, rows=0, adapter=undisturbed / "adapter").checks
    assert [c.name for c in checks if c.stops] == ["prompt is the adapter's"]


def test_an_adapter_that_says_nothing_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected: triptych\.json"):
        adapter_facts(read_config(project()), None, tmp_path)
    with pytest.raises(ConfigError, match="nothing is trained"):
        adapter_facts(read_config(project(), ["strategies.qlora=null"]), None, tmp_path)
