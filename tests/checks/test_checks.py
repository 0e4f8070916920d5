"""Each check finds its own mistake, names the rows, and stays silent on data that is only odd."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.checks.findings import Check
from triptych.checks.rows import require, run_checks
from triptych.config.experiment import ExperimentConfig
from triptych.config.read import read_config
from triptych.data import Dataset, Row, find_overlap
from triptych.errors import ConfigError, DataError
from triptych.grid.inputs import read_data, templates_of
from triptych.grid.rendered import RenderedExperiment, render_experiment, spread
from triptych.grid.renderer import ContextLimit
from triptych.grid.rows import ExperimentRows
from triptych.models import TokenizerProfile, load_profile, profile_of
from triptych.prompts import Rendered

Project = Callable[..., Path]

BOS, EOS = 256, 257
ONE_BOS, EOS_LAST = "one BOS, at the start", "EOS last and scored"
MASKED, WHOLE = "prompt masked: the output and EOS are scored", "no answer truncated"
APART = "demonstrations are training rows, never from the test set, never the row itself"
ALIKE, ADAPTER = "training and scoring render alike", "prompt is the adapter's"
ROUND, SPECIAL, UNKNOWN = "tokens decode to the output", "no text of a special token in the data", "no unknown tokens"


def by_name(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if check.stops]


def rendered_of(path: Path, *sets: str, max_tokens: int = 2048) -> RenderedExperiment:
    config = read_config(path, sets)
    profile = load_profile(config.model)
    limit = ContextLimit(max_tokens)
    return render_experiment(ExperimentRows(config, read_data(config), templates_of(config), profile, limit))


def rendered_on(
    rows: Sequence[tuple[str, str]], profile: TokenizerProfile, *, test: int = 1, **over: Any
) -> RenderedExperiment:
    """An experiment with these (instruction, output) rows, the last `test` of them to be scored."""
    made = [Row(str(i), *texts) for i, texts in enumerate(rows)]
    train, tested = tuple(made[:-test]), tuple(made[-test:])
    data = Dataset(train, (), tested, overlapping_train_ids=find_overlap(train, tested).train_ids)
    strategies = {"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1], "seeds": [0]}, "qlora": {}}
    # a blank instruction overlaps with none, and still isn't shown to itself
    asked = {row.instruction for row in tested}
    if all(row.id in data.overlapping_train_ids or row.instruction in asked for row in train):
        del strategies["few_shot"]
    config = ExperimentConfig.model_validate({"strategies": strategies, **over})
    return render_experiment(ExperimentRows(config, data, templates_of(config), profile, ContextLimit(4096)))


def with_first(
    experiment: RenderedExperiment, at: int, change: Callable[[Rendered], dict[str, Any]]
) -> RenderedExperiment:
    """The experiment, the first row of part `at` rendered otherwise."""
    part = experiment.parts[at]
    bad = dataclasses.replace(part.rendered[0], **change(part.rendered[0]))
    changed = dataclasses.replace(part, rendered=(bad, *part.rendered[1:]))
    return dataclasses.replace(experiment, parts=(*experiment.parts[:at], changed, *experiment.parts[at + 1 :]))


@pytest.fixture(scope="module")
def profile(model_folder: Path) -> TokenizerProfile:
    from triptych.config.model import ModelConfig

    return load_profile(ModelConfig(name=str(model_folder)))


def tokenizer_with(
    words: Sequence[str], *, bos: str | None, eos: str, unk: str, lower: bool = False
) -> TokenizerProfile:
    """Characters as tokens, with the special tokens given."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys(t for t in (bos, eos, unk) if t))
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return profile_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, unk_token=unk))


# --- a sound experiment


def test_a_sound_experiment_passes_every_check(project: Project) -> None:
    experiment = rendered_of(project())
    checks = run_checks(experiment)
    assert [check.name for check in checks if not check.passed] == []
    require(checks)
    names = [part.name for part in experiment.parts]
    assert names[0] == "zero_shot/default"
    assert "few_shot/default/k=3/draw=item/seed=1" in names
    assert names[-1] == "training default/train_seed=0"
    found = by_name(checks)
    assert found[ONE_BOS].detail == "<bos> (256) once, before every prompt"
    assert "rows shown" in found[APART].detail
    assert found[ALIKE].detail == "20 rows by both"  # 6 of test, 14 of train
    assert found[ADAPTER].detail == "no adapter yet"


def test_views_hold_every_row_of_every_cell(project: Project) -> None:
    experiment = rendered_of(project())
    for part in experiment.parts:
        assert len(part.rows) == part.n_rows == (14 if part.training else 6)
        assert [row.id for row in part.rows] == [rendered.row_id for rendered in part.rendered]


# --- what must stop a run


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda r: {"ids": (BOS, *r.ids), "n_prompt": r.n_prompt + 1}, ONE_BOS),
        (lambda r: {"ids": r.ids[1:], "n_prompt": r.n_prompt - 1}, ONE_BOS),
        (lambda r: {"ids": (*r.ids[:-1], 10)}, EOS_LAST),
        (lambda r: {"n_prompt": r.n_prompt - 1}, MASKED),  # the prompt's last token is scored
        (lambda r: {"n_prompt": r.n_prompt + 1}, MASKED),  # the output's first token isn't
        (lambda r: {"ids": (*r.ids[:-2], EOS)}, MASKED),  # the answer is cut
    ],
)
@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_wrong_rendering_is_found_and_named(
    project: Project, change: Callable[[Rendered], dict[str, Any]], name: str, at: int
) -> None:
    experiment = rendered_of(project())
    at %= len(experiment.parts)
    checks = run_checks(with_first(experiment, at, change))
    assert failed(checks) == [name]
    assert by_name(checks)[name].rows == (experiment.parts[at].rows[0].id,)
    with pytest.raises(ConfigError, match=experiment.parts[at].rows[0].id) as error:
        require(checks)
    assert name in str(error.value)
    assert "please report it" in str(error.value)


def test_bos_in_a_template_is_refused(project: Project) -> None:
    path = project(prompts={"own": "<bos>{instruction}："}, strategies={"zero_shot": {"prompts": ["own", "default"]}})
    checks = run_checks(rendered_of(path))
    assert failed(checks) == [ONE_BOS]
    found = by_name(checks)[ONE_BOS]
    assert len(found.rows) == 6
    assert "`own`" in found.detail
    assert "`default`" not in found.detail
    with pytest.raises(ConfigError, match="take <bos> out of the template"):
        require(checks)


def one_under_the_longest(experiment: RenderedExperiment, at: int) -> int:
    """A limit in tokens that at least one row of a part is beyond, and not all."""
    lengths = sorted({len(rendered.ids) for rendered in experiment.parts[at].rendered})
    assert len(lengths) > 1
    return lengths[-1] - 1


def test_a_test_row_that_is_too_long_is_named_before_the_run(project: Project) -> None:
    path = project(strategies={"zero_shot": {"prompts": ["default"]}, "few_shot": {"k": [1]}, "qlora": None})
    limit = one_under_the_longest(rendered_of(path), 0)
    checks = run_checks(rendered_of(path, max_tokens=limit))
    assert failed(checks) == [WHOLE]
    found = by_name(checks)[WHOLE]
    assert 0 < len(found.rows) < 6
    with pytest.raises(DataError, match=f"longer than {limit} tokens even without demonstrations.*{found.rows[0]}"):
        require(checks)


def test_long_training_rows_are_left_out_and_said(project: Project) -> None:
    path = project()
    limit = one_under_the_longest(rendered_of(path), -1)
    experiment = rendered_of(path, f"tune.max_tokens={limit}")
    found = by_name(run_checks(experiment))[WHOLE]
    assert found.passed
    assert f"{len(found.rows)} of 14 rows too long, left out whole" in found.detail
    assert 0 < len(found.rows) < 14
    assert all(row.startswith("train-") for row in found.rows)


def test_no_training_row_left_is_refused(project: Project) -> None:
    checks = run_checks(rendered_of(project(), "tune.max_tokens=50"))
    assert failed(checks) == [WHOLE]
    assert "nothing is left to train on" in by_name(checks)[WHOLE].detail


def test_demonstrations_dropped_whole_are_no_mistake_and_counted(project: Project) -> None:
    found = by_name(run_checks(rendered_of(project(), max_tokens=600)))[WHOLE]
    assert found.passed
    assert "that did not fit dropped whole" in found.detail


def test_a_demonstration_from_the_test_set_is_refused(project: Project) -> None:
    experiment = rendered_of(project())
    shown = next(r.demo_ids[0] for part in experiment.parts for r in part.rendered if r.demo_ids)
    leaked = next(row for row in experiment.data.train if row.id == shown)
    # the same question in other punctuation counts too
    test = (*experiment.data.test, Row("leaked", f"{leaked.instruction}！", "x"))
    checks = run_checks(dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, test=test)))
    assert failed(checks) == [APART]
    assert by_name(checks)[APART].rows == (shown,)
    with pytest.raises(DataError, match="also in the test set"):
        require(checks)


def test_a_demonstration_that_is_no_training_row_is_refused(project: Project) -> None:
    experiment = with_first(rendered_of(project()), 2, lambda _: {"demo_ids": ("test-0",)})
    assert by_name(run_checks(experiment))[APART].rows == ("test-0",)


def test_a_row_shown_to_itself_is_refused(project: Project) -> None:
    experiment = rendered_of(project())
    checks = run_checks(with_first(experiment, len(experiment.parts) - 1, lambda r: {"demo_ids": (r.row_id,)}))
    assert failed(checks) == [APART]
    assert "shown to itself: 1 row train-0" in by_name(checks)[APART].detail


def test_another_rendering_in_training_is_refused(project: Project) -> None:
    experiment = rendered_of(project())
    trained, scored = experiment.pairs[3]
    other = (dataclasses.replace(trained, ids=(*trained.ids, EOS)), scored)
    checks = run_checks(dataclasses.replace(experiment, pairs=(*experiment.pairs[:3], other, *experiment.pairs[4:])))
    assert failed(checks) == [ALIKE]
    assert by_name(checks)[ALIKE].rows == (scored.row_id,)


def test_an_adapter_of_another_prompt_is_refused(project: Project) -> None:
    experiment = rendered_of(project())
    name = experiment.trainings[0].name
    same = {"prompt": "default", "prompt_sha256": experiment.templates["default"].sha256}
    assert by_name(run_checks(experiment, adapters={name: same}))[ADAPTER].detail == "1 adapter, same hash"
    checks = run_checks(experiment, adapters={name: {"prompt": "old", "prompt_sha256": "ab" * 32}})
    assert failed(checks) == [ADAPTER]
    with pytest.raises(ConfigError, match="trained with `old` \\(abababababab…\\), `default` is"):
        require(checks)
    # adapters of other tools say nothing about a prompt
    assert failed(run_checks(experiment, adapters={name: {}})) == []


def test_every_failed_check_is_in_one_message(project: Project) -> None:
    experiment = with_first(rendered_of(project()), 0, lambda r: {"ids": (*r.ids[1:-1], 3), "n_prompt": r.n_prompt - 1})
    with pytest.raises(ConfigError) as error:
        require(run_checks(experiment))
    assert "2 checks failed" in error.value.what
    assert ONE_BOS in str(error.value)
    assert EOS_LAST in str(error.value)


# --- what must not


def test_the_text_of_bos_in_the_data_is_a_warning_that_says_what_became_of_it(profile: TokenizerProfile) -> None:
    experiment = rendered_on([("a", "b"), ("what does <bos> mean?", "it begins<eos>"), ("c", "d")], profile)
    checks = run_checks(experiment)
    assert failed(checks) == []
    found = by_name(checks)[SPECIAL]
    assert not found.passed
    assert found.rows == ("1",)
    assert "<bos> in 1 row 1, where it became the special token 256" in found.detail
    assert "<eos> in 1 row 1" in found.detail
    assert "with <bos> in the data's own text" in by_name(checks)[ONE_BOS].detail


def test_a_tokenizer_that_splits_special_text_says_so(profile: TokenizerProfile) -> None:
    profile.tokenizer.split_special_tokens = True
    try:
        found = by_name(run_checks(rendered_on([("a", "b"), ("x", "<eos>")], profile)))[SPECIAL]
    finally:
        profile.tokenizer.split_special_tokens = False
    assert found.detail == "<eos> in 1 row 1, where it was split into plain tokens"


def test_a_tokenizer_that_gives_other_text_back_is_a_warning(project: Project) -> None:
    lower = tokenizer_with("abcdefghijklmnopqrstuvwxyz :.\n", bos="<s>", eos="</s>", unk="<unk>", lower=True)
    prompts = {"default": "user: {instruction} answer:"}
    checks = run_checks(rendered_on([("a", "b"), ("x", "yes"), ("z", "No")], lower, prompts=prompts))
    assert failed(checks) == []
    assert by_name(checks)[ROUND].rows == ("2",)
    assert "the first as 'no' instead of 'No'" in by_name(checks)[ROUND].detail
    assert by_name(checks)[UNKNOWN].passed


def test_unknown_tokens_are_counted_by_row() -> None:
    small = tokenizer_with("abc :\n", bos="<s>", eos="</s>", unk="<unk>")
    checks = run_checks(
        rendered_on([("a", "b"), ("a", "b"), ("c", "ab?!")], small, prompts={"default": "a {instruction}:"})
    )
    assert failed(checks) == []
    found = by_name(checks)[UNKNOWN]
    assert (found.passed, found.rows, found.warning) == (False, ("2",), True)
    assert found.detail == "2 in 1 row: 1 row 2"


@pytest.mark.parametrize("bos", [None, "<end>"])
def test_no_bos_or_one_that_is_also_eos_raises_no_alarm(bos: str | None) -> None:
    """Qwen has no BOS; GPT-2 has one token for BOS, EOS and unknown."""
    one = tokenizer_with("abc :\n", bos=bos, eos="<end>", unk="<end>")
    checks = run_checks(
        rendered_on([("a", "b"), ("b", "a"), ("c", "ab")], one, prompts={"default": "a {instruction}:"})
    )
    assert [check.name for check in checks if not check.passed] == []
    if bos is None:
        assert by_name(checks)[ONE_BOS].detail == "the model has no BOS, and none is put"


def test_twins_in_train_and_equal_ids_raise_no_alarm(project: Project, tmp_path: Path) -> None:
    path = project()
    rows = [{"id": str(i), "instruction": f"問{i // 2}", "output": "答"} for i in range(10)]
    (tmp_path / "data" / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    tested = [{"id": str(i), "instruction": f"別{i}", "output": "答"} for i in range(5)]
    (tmp_path / "data" / "test.json").write_text(json.dumps(tested), encoding="utf-8")
    assert failed(run_checks(rendered_of(path))) == []


def test_overlap_that_is_kept_out_of_the_pool_raises_no_alarm(profile: TokenizerProfile) -> None:
    experiment = rendered_on([("a", "b"), ("same", "same"), ("c", "d"), ("same", "same")], profile)
    checks = run_checks(experiment)
    assert failed(checks) == []
    assert "1 training row that occur in the test set" in by_name(checks)[APART].detail


TEXT = st.lists(
    st.one_of(
        st.sampled_from(["<bos>", "<eos>", "<pad>", "{instruction}", "\n", " ", "文", "USER:"]), st.text(max_size=6)
    ),
    max_size=5,
).map("".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), min_size=3, max_size=6))
def test_no_row_stops_a_run_whatever_its_text(profile: TokenizerProfile, rows: list[tuple[str, str]]) -> None:
    checks = run_checks(rendered_on(rows, profile))
    assert failed(checks) == []
    assert by_name(checks)[ROUND].passed  # bytes give every text back


CHAT = (
    "<bos>{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def chatting(model_folder: Path) -> TokenizerProfile:
    """The same tokenizer with a chat template, which ends turns and trims what stands in them."""
    from triptych.config.model import ModelConfig

    found = load_profile(ModelConfig(name=str(model_folder)))
    found.tokenizer.chat_template = CHAT
    return found


def chat_prompts(style: str) -> dict[str, Any]:
    return {"default": {"zero_shot": "問{instruction}", "style": style}}


@pytest.mark.parametrize("style", ["chat", "multiturn"])
def test_chat_styles_raise_no_alarm(chatting: TokenizerProfile, style: str) -> None:
    rows = [("a", "b"), (" c ", " d\n"), ("<bos>e", "f<eos>"), ("g", "h"), ("i", "j <bos>")]
    checks = run_checks(rendered_on(rows, chatting, test=2, prompts=chat_prompts(style)))
    assert failed(checks) == []
    assert "where it was split into plain tokens" in by_name(checks)[SPECIAL].detail


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda r: {"ids": (BOS, *r.ids), "n_prompt": r.n_prompt + 1}, ONE_BOS),
        (lambda r: {"n_prompt": r.n_prompt + 1}, MASKED),
        (lambda r: {"n_prompt": r.n_prompt - 4}, MASKED),
        (lambda r: {"ids": tuple(i for i in r.ids if i != EOS)}, EOS_LAST),
    ],
)
def test_a_wrong_chat_rendering_is_found(
    chatting: TokenizerProfile, change: Callable[[Rendered], dict[str, Any]], name: str
) -> None:
    experiment = rendered_on([("a", "b"), ("cc", "dd"), ("ee", "ff")], chatting, prompts=chat_prompts("chat"))
    assert name in failed(run_checks(with_first(experiment, 0, change)))


@settings(max_examples=30)
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), min_size=3, max_size=5))
def test_no_row_stops_a_run_in_a_chat(chatting: TokenizerProfile, rows: list[tuple[str, str]]) -> None:
    assert failed(run_checks(rendered_on(rows, chatting, prompts=chat_prompts("chat")))) == []


def test_spread_is_even_and_whole_when_it_can_be() -> None:
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(range(100), 4) == [0, 25, 50, 75]
    assert spread([], 3) == []


SEARCH = "strategies={search: {prompts: [default], k: [0, 1]}}"
ON_DEV = ("data.dev_rows=6", "tune.select=dev")


@pytest.mark.parametrize("sets", [(SEARCH, ON_DEV[0]), ("strategies={qlora: {}}", *ON_DEV)])
def test_rows_that_only_choose_are_looked_at_too(project: Project, sets: Sequence[str]) -> None:
    """A dev row whose answer would be cut stops the run before it begins, not in the middle of it."""
    path = project()
    experiment = rendered_of(path, *sets)
    dev = [part for part in experiment.parts if part.name.startswith("dev ")]
    assert dev
    assert all(set(part.rows) == set(experiment.data.dev) for part in dev)
    longest = max((r for part in dev for r in part.rendered), key=lambda r: len(r.ids) if not r.demo_ids else 0)
    checks = run_checks(rendered_of(path, *sets, max_tokens=len(longest.ids) - 1))
    assert longest.row_id in by_name(checks)[WHOLE].rows
    with pytest.raises(DataError, match="no answer truncated"):
        require(checks)
