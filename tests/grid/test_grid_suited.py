"""Prompts that nobody named, and what `config init` writes: by the model's chat template and the rows' language."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import triptych
from triptych.checks.preview import preview
from triptych.config.experiment import ExperimentConfig
from triptych.config.model import ModelConfig
from triptych.data import read_rows
from triptych.grid.cells import grid, trainings
from triptych.grid.suited import starter_choices, suited_prompt, with_prompts
from triptych.plan.plan import plan_experiment
from triptych.progress import Silent
from triptych.runner.run import run_experiment

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ROWS = {
    "en": ["What do you think of this shop?", "How was the food that they had?"],
    "zh": ["這家店你覺得怎麼樣？", "他們的菜好吃嗎？"],
    "other": ["Wie findest du den Laden?", "War das Essen gut?"],
}


@pytest.fixture
def chat_model(fake_folder: Callable[..., Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "chat-model"))
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(language, output=...)`: a folder with train.json and test.json."""

    def rows(language: str, output: Callable[[int], str] = lambda n: f"{n}") -> Path:
        folder = tmp_path / language
        folder.mkdir(exist_ok=True)
        for name, size in (("train", 12), ("test", 4)):
            asked = [f"{ROWS[language][n % 2]} {name} {n}" for n in range(size)]
            values = [{"id": f"{name}-{n}", "instruction": text, "output": output(n)} for n, text in enumerate(asked)]
            (folder / f"{name}.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        return folder

    return rows


def config(model: Path, data: Path, strategies: dict[str, Any], **more: Any) -> ExperimentConfig:
    spec = {"name": str(model), "quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1}
    return ExperimentConfig.model_validate(
        {"model": spec, "data": {"dir": str(data), "dev_rows": 2}, "strategies": strategies, **more}
    )


EVERY: dict[str, Any] = {"zero_shot": {}, "few_shot": {"k": [1], "seeds": [0]}, "qlora": {}, "search": {"k": [0, 1]}}


def prompts_of(settings: ExperimentConfig) -> dict[str, Any]:
    given = settings.strategies
    assert given.zero_shot and given.few_shot and given.qlora and given.search
    few, search = given.few_shot.prompts, given.search.prompts
    return {"zero_shot": given.zero_shot.prompts, "few_shot": few, "qlora": given.qlora.prompt, "search": search}


STUDY = {
    **{"zero_shot": ("default", "emotional"), "few_shot": ("default",), "qlora": "default"},
    "search": ("default", "emotional"),
}


@pytest.mark.parametrize(
    ("language", "zero_shot"),
    [("en", ("chat", "chat-brief-en")), ("zh", ("chat", "chat-brief-zh")), ("other", ("chat",))],
)
def test_of_a_model_with_a_chat_template(
    language: str, zero_shot: tuple[str, ...], chat_model: Path, write: Callable[..., Path]
) -> None:
    named = prompts_of(with_prompts(config(chat_model, write(language), EVERY)))
    assert named == {
        **{"zero_shot": zero_shot, "few_shot": ("multiturn",), "qlora": "chat"},
        "search": ("multiturn", *zero_shot[1:]),
    }


@pytest.mark.parametrize(
    ("language", "names"),
    [("en", ("neutral-task-en", "neutral-headings-en")), ("other", ("bare", "neutral-arrow"))],
)
def test_of_a_model_without_on_other_rows(
    language: str, names: tuple[str, ...], fake_folder: Callable[..., Path], write: Callable[..., Path]
) -> None:
    named = prompts_of(with_prompts(config(fake_folder("llama"), write(language), EVERY)))
    assert named == {"zero_shot": names, "few_shot": names[:1], "qlora": names[0], "search": names}


def test_the_studys_stay_for_chinese_rows_without_a_chat_template(
    fake_folder: Callable[..., Path], write: Callable[..., Path]
) -> None:
    given = config(fake_folder("llama"), write("zh"), EVERY)
    assert with_prompts(given) is given
    assert prompts_of(given) == STUDY


def test_what_somebody_named_stays(chat_model: Path, write: Callable[..., Path]) -> None:
    data = write("en")
    named = {
        "zero_shot": {"prompts": ["default"]},
        "few_shot": {"prompt": "emotional", "k": [1], "seeds": [0]},
        "qlora": {"prompt": "bare"},
    }
    given = config(chat_model, data, named)
    assert with_prompts(given) is given
    some = with_prompts(config(chat_model, data, {**named, "zero_shot": {}}))
    assert some.strategies.zero_shot is not None
    assert some.strategies.zero_shot.prompts == ("chat", "chat-brief-en")
    assert some.strategies.few_shot == given.strategies.few_shot
    # a `default` of one's own is a prompt that somebody named
    own = config(chat_model, data, EVERY, prompts={"default": "Say: {instruction} "})
    assert with_prompts(own) is own


def test_what_can_not_be_read_changes_nothing(chat_model: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    for model, data in ((chat_model, tmp_path / "nothing"), (tmp_path / "nothing", write("en"))):
        given = config(model, data, EVERY)
        assert with_prompts(given) is given


def test_a_run_its_plan_and_its_preview_have_the_same_prompts(
    chat_model: Path, write: Callable[..., Path], tmp_path: Path, quickly_timed: None
) -> None:
    said: list[str] = []

    class Heard(Silent):
        def info(self, message: str) -> None:
            said.append(message)

    strategies = {"zero_shot": {}, "few_shot": {"k": [1], "seeds": [0]}}
    given = config(chat_model, write("en"), strategies)
    names = ["zero_shot/chat", "zero_shot/chat-brief-en", "few_shot/multiturn/k=1/seed=0"]
    expected = [cell.name for cell in grid(with_prompts(given))]
    assert [name.split("/")[:2] for name in expected] == [name.split("/")[:2] for name in names]
    record = run_experiment(given, tmp_path / "run", reporter=Heard())
    assert [cell.cell for cell in record.cells] == expected
    # what was chosen is recorded, so that the run can be made again from its records
    assert record.provenance["config"]["strategies"]["few_shot"]["prompts"] == ["multiturn"]
    assert any("few_shot: multiturn" in line and "rows in English" in line for line in said)
    assert [cell.name for cell in plan_experiment(given, tmp_path / "plan").cells] == expected
    assert {row.cell for row in preview(given).rows} <= set(expected)
    # a second run of the same settings finds the first one's cells
    run_experiment(given, tmp_path / "run", reporter=Heard())
    assert any("3 of 3 cells are already scored" in line for line in said)


def test_trainings_have_them_too(chat_model: Path, write: Callable[..., Path]) -> None:
    assert [one.prompt for one in trainings(with_prompts(config(chat_model, write("en"), {"qlora": {}})))] == ["chat"]


def test_a_configuration_to_begin_with(
    chat_model: Path, fake_folder: Callable[..., Path], write: Callable[..., Path]
) -> None:
    data = write("en", lambda n: "good" if n % 3 else "bad")
    train, test = str(data / "train.json"), str(data / "test.json")
    found = starter_choices(str(chat_model), train, test)
    assert found.metrics == ("accuracy", "perplexity")
    assert found.prompts["zero_shot"] == {"prompts": ["chat", "chat-brief-en"]}
    assert found.prompts["qlora"] == {"prompt": "chat"}
    assert found.warnings == ()
    assert "2 distinct outputs in 12 training rows" in found.notes[-1]
    texts = write("zh")
    found = starter_choices(str(fake_folder("llama")), str(texts / "train.json"), str(texts / "test.json"))
    assert found.metrics == ()
    # Chinese, and not the study's task: its prompts, which speak of translation, don't fit
    assert found.prompts["few_shot"] == {"prompts": ["neutral-task-zh"]}


@pytest.mark.parametrize("train", [None, "sample"])
def test_the_sample_is_the_studys_task(train: str | None) -> None:
    found = starter_choices("demo", train, None)
    assert found.prompts["zero_shot"] == {"prompts": ["default", "emotional"]}
    assert found.metrics == ()
    assert starter_choices("demo-chat", train, None).prompts["zero_shot"] == {"prompts": ["chat", "chat-brief-zh"]}


def test_what_is_not_there_is_said(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[{")
    found = starter_choices("nobody/none", str(tmp_path / "broken.json"), "owner/name")
    assert ["the model can't be looked at" in found.warnings[0], "broken.json" in found.warnings[1]] == [True, True]
    assert found.prompts["zero_shot"] == {"prompts": ["bare", "neutral-arrow"]}
    assert "rows that are not looked at" in found.notes[0]


@pytest.mark.parametrize(("k", "expected"), [(0, "chat"), (2, "multiturn")])
@pytest.mark.parametrize("language", ROWS)
def test_one_cell_without_a_named_prompt_is_in_the_models_chat_template(
    k: int, expected: str, language: str, chat_model: Path, fake_folder: Callable[..., Path], write: Callable[..., Path]
) -> None:
    rows = read_rows(write(language) / "test.json")
    assert suited_prompt(ModelConfig(name=str(chat_model)), rows, k, Silent()) == expected
    assert suited_prompt(ModelConfig(name=str(fake_folder("llama"))), rows, k, Silent()) == "default"


def test_score_takes_the_prompt_that_an_adapter_was_trained_with(
    chat_model: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    data = write("en")
    given = {"quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1, "reporter": Silent()}
    files = str(data / "train.json"), str(data / "test.json")
    triptych.tune(chat_model, *files, out=tmp_path / "tuned", prompt="bare", r=2, epochs=1, **given)
    scored = triptych.score(chat_model, files[1], adapter=tmp_path / "tuned" / "adapter", cache=False, **given)
    assert scored.provenance["prompt"]["name"] == "bare"
    assert triptych.score(chat_model, files[1], cache=False, **given).provenance["prompt"]["name"] == "chat"
