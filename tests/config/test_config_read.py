"""Reading the YAML: every mistake names file, line, key and the way out; `--set` goes over the file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from triptych.config.config_errors import _OTHER_TOOLS
from triptych.config.experiment import ExperimentConfig
from triptych.config.generate import GenerateConfig
from triptych.config.model import ModelConfig
from triptych.config.read import from_options, read_config, validated
from triptych.config.starter import schema
from triptych.errors import ConfigError

GOOD = """\
name: mine
model:
  name: demo
  quantize: none
data:
  dir: rows
strategies:
  zero_shot:
    prompts: [default]
  few_shot:
    k: [1, 2]
tune:
  lr: 1.0e-3
  betas: [0.9, 0.95]
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(text: str | bytes = GOOD, name: str = "exp.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


def mistake(path: Path, *sets: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path, sets)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os"])
def test_yaml_makes_no_objects(write: Any, tmp_path: Path, tag: str) -> None:
    made = tmp_path / "made"
    assert mistake(write(f"name: {tag} ['{made}']\n")).where
    assert not made.exists()


def test_a_good_file(write: Any) -> None:
    config = read_config(write())
    assert config.name == "mine"
    assert config.model.quantize == "none"
    assert config.strategies.few_shot is not None
    assert config.strategies.few_shot.k == (1, 2)
    assert config.strategies.few_shot.seeds == (0, 1, 2)
    assert config.strategies.qlora is None
    assert config.tune.lr == 1e-3


@pytest.mark.parametrize("section", ["few_shot", "qlora", "search"])
def test_a_bare_number_of_seeds_is_refused(write: Any, section: str) -> None:
    path = write(f"data: {{dev_rows: 4}}\nstrategies:\n  {section}: {{seeds: 3}}\n")
    error = mistake(path)
    assert "line 3" in (error.where or "")
    assert "`seeds: [3]`" in (error.expected or "")
    assert "`seeds: [0, 1, 2]`" in (error.expected or "")


def test_home_folders(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = "model: {name: ~/m}\ndata: {dir: ~/rows, train: ~/a.json}\nprompts: {p: ~/p.txt}\n"
    home = tmp_path / "home"
    for config in (read_config(write(text)), read_config(write("name: a"), ["data.dir=~/rows", "model.name=~/m"])):
        assert config.data.dir == str(home / "rows")
        assert config.model.name == str(home / "m")
    config = read_config(write(text))
    assert config.prompts == {"p": str(home / "p.txt")}
    assert config.data.train == str(home / "a.json")


@pytest.mark.parametrize(
    ("key", "line", "text"),
    [
        ("modle", 2, GOOD.replace("model:", "modle:")),
        ("model.quantise", 4, GOOD.replace("quantize", "quantise")),
        ("data.dirr", 6, GOOD.replace("dir:", "dirr:")),
        ("strategies.zeroshot", 8, GOOD.replace("zero_shot", "zeroshot")),
        ("strategies.zero_shot.prompt", 9, GOOD.replace("prompts:", "prompt:")),
        ("strategies.few_shot.ks", 11, GOOD.replace("k: [1", "ks: [1")),
        ("tune.beta", 14, GOOD.replace("betas", "beta")),
    ],
)
def test_an_unknown_key_names_its_line_and_the_nearest(key: str, line: int, text: str, write: Any) -> None:
    path = write(text)
    error = mistake(path)
    assert error.what == f"unknown key `{key}`"
    assert error.where == f"{path}, line {line}, key `{key}`"
    meant = {
        "modle": "model",
        "quantise": "quantize",
        "dirr": "dir",
        "zeroshot": "zero_shot",
        "prompt": "prompts",
        "ks": "k",
        "beta": "betas",
    }[key.rsplit(".", 1)[-1]]
    assert error.expected is not None
    assert meant in error.expected.split(", ")
    assert error.fix == f"did you mean `{meant}`?"


def test_an_unknown_key_like_no_other(write: Any) -> None:
    error = mistake(write(GOOD + "zzzzzz: 1\n"))
    assert error.fix == "remove it"
    assert error.expected == ", ".join(sorted(ExperimentConfig.model_fields))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: {name: demo\ntune:\n", 2),
        ("model:\n\tname: demo\n", 2),
        ("name: a\nmodel: b: c\n", 2),
        ("name: 'a\n", 2),
        ("---\nname: a\n---\nname: b\n", 3),
    ],
)
def test_not_yaml_names_the_line(text: str, line: int, write: Any) -> None:
    path = write(text)
    error = mistake(path)
    assert error.what == "the configuration is not YAML"
    assert str(error.where).startswith(f"{path}, line {line}, column ")
    assert error.found


def test_a_date_that_is_none(write: Any) -> None:
    assert mistake(write("name: 2024-99-99\n")).what == "the configuration is not YAML"


@pytest.mark.parametrize(("text", "found"), [("- a\n- b\n", "a list"), ("just text\n", "'just text'"), ("3\n", "3")])
def test_not_a_mapping(text: str, found: str, write: Any) -> None:
    error = mistake(write(text))
    assert (error.what, error.found) == ("the configuration is not a mapping", found)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "\n\n"])
def test_an_empty_file_runs_nothing(text: str, write: Any) -> None:
    error = mistake(write(text))
    assert error.what == "the configuration is empty"
    assert "triptych config init" in str(error.fix)


def test_a_section_with_nothing_below_it_has_its_defaults(write: Any) -> None:
    assert read_config(write("name: mine\nmodel:\ntune:\n")) == ExperimentConfig(name="mine")
    assert "at least one of" in str(mistake(write("strategies:\n")).expected)


def test_a_missing_file_names_the_nearest(write: Any, tmp_path: Path) -> None:
    write(name="experiment.yaml")
    error = mistake(tmp_path / "experimnet.yaml")
    assert error.what == "there is no such configuration file"
    assert error.fix == f"did you mean {tmp_path / 'experiment.yaml'}?"
    assert mistake(tmp_path / "nowhere" / "x.yaml").found == "no YAML file in that folder"


def test_a_folder_or_bytes_are_no_configuration(write: Any, tmp_path: Path) -> None:
    assert mistake(tmp_path).found == "Is a directory"
    assert mistake(write(b"name: \xff\xfe\n")).found == "bytes that are not UTF-8"


@pytest.mark.parametrize(
    ("old", "new", "key", "line", "expected"),
    [
        ("quantize: none", "quantize: nf8", "model.quantize", 4, "'nf4', 'int8' or 'none'"),
        ("lr: 1.0e-3", "lr: fast", "tune.lr", 13, "a number"),
        ("lr: 1.0e-3", "lr: 0", "tune.lr", 13, "greater than 0"),
        ("lr: 1.0e-3", "lr: 2", "tune.lr", 13, "less than or equal to 1"),
        ("lr: 1.0e-3", "r: 1.5", "tune.r", 13, "a whole number"),
        ("lr: 1.0e-3", "max_grad_norm: []", "tune.max_grad_norm", 13, "a number"),
        ("k: [1, 2]", "k: [1, 0]", "strategies.few_shot.k", 11, "1 or more"),
        ("k: [1, 2]", "k: [1, two]", "strategies.few_shot.k.1", 11, "a whole number"),
        ("k: [1, 2]", "k: [1, 1]", "strategies.few_shot.k", 11, "each value once"),
        ("k: [1, 2]", "k: []", "strategies.few_shot.k", 11, "at least one value"),
        ("k: [1, 2]", "draw: [row]", "strategies.few_shot.draw.0", 11, "'item' or 'seed'"),
        ("prompts: [default]", "prompts: []", "strategies.zero_shot.prompts", 9, "at least one value"),
        ("prompts: [default]", "prompts: {a: b}", "strategies.zero_shot.prompts", 9, "a list"),
        ("betas: [0.9, 0.95]", "betas: [0.9]", "tune.betas.1", 14, "a value"),
        ("name: mine", "name: my run", "name", 1, "letters, digits"),
        ("name: mine", "name: ../up", "name", 1, "letters, digits"),
        ("name: mine", "name: 3", "name", 1, "text, in quotes"),
        ("dir: rows", "strict: perhaps", "data.strict", 6, "true or false"),
        ("dir: rows", "test_rows: 0", "data.test_rows", 6, "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_names_its_line_and_what_was_expected(
    old: str, new: str, key: str, line: int, expected: str, write: Any
) -> None:
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    error = mistake(path)
    assert error.what == f"`{key}` can't be used"
    assert error.where == f"{path}, line {line}, key `{key}`"
    assert str(error.expected).startswith(expected)


def test_several_mistakes_are_all_named_in_the_order_of_the_file(write: Any) -> None:
    text = (
        GOOD.replace("lr: 1.0e-3", "lr: -1\n  r: 0").replace("dir:", "dirr:").replace("quantize: none", "quantize: 8")
    )
    path = write(text)
    error = mistake(path, "tune.epochs=-1")
    assert error.what == "5 settings can't be used"
    assert error.where == str(path)
    assert str(error.found).splitlines()[1:] == [
        "    line 4, key `model.quantize`: 8, expected 'nf4', 'int8' or 'none'",
        "    line 6, key `data.dirr`: unknown; did you mean `dir`?",
        "    --set tune.epochs=-1, key `tune.epochs`: -1, expected greater than 0",
        "    line 13, key `tune.lr`: -1, expected greater than 0",
        "    line 14, key `tune.r`: 0, expected greater than or equal to 1",
    ]


def test_at_most_ten_mistakes_are_named(write: Any) -> None:
    error = mistake(write(GOOD + "".join(f"zz{number}: 1\n" for number in range(14))))
    assert error.what == "14 settings can't be used"
    assert str(error.found).count("unknown") == 10
    assert str(error.found).endswith("… and 4 more")


@pytest.mark.parametrize(
    ("text", "line", "meant"),
    [
        ("lr: 1\n", 1, "tune.lr"),  # another section's
        ("name: a\nepochs: 1\n", 2, "tune.epochs"),
        ("tune:\n  lora_r: 8\n", 2, "tune.r"),  # another tool's
        ("learning_rate: 1\n", 1, "tune.lr"),
        ("tune:\n  num_train_epochs: 8\n", 2, "tune.epochs"),
    ],
)
def test_a_key_that_belongs_elsewhere(text: str, line: int, meant: str, write: Any) -> None:
    error = mistake(write(text))
    assert f"line {line}, key" in str(error.where)
    assert error.fix == f"did you mean `{meant}`?"


def test_a_key_twice_names_both_lines(write: Any) -> None:
    path = write(GOOD + "model:\n  name: other\n")
    error = mistake(path)
    assert error.what == "the key `model` stands twice"
    assert error.where == f"{path}, line 15"
    assert error.found == "`model` on line 2 and on line 15"
    error = mistake(write("tune: {lr: 1, r: 2, lr: 3}\n"))
    assert error.found == "`tune.lr` on line 1 and on line 1"
    error = mistake(write("tune:\n  lr: 1\n  r: 2\n  lr: 3\n  r: 4\n"))
    assert error.what == "2 keys stand twice"
    assert "`tune.lr` on line 2 and on line 4" in str(error.found)
    assert "`tune.r` on line 3 and on line 5" in str(error.found)


def test_aliases_may_be_used_and_not_abused(write: Any) -> None:
    text = "tune: &t {lr: 1.0e-3}\nstrategies: {few_shot: {k: &k [1, 2], seeds: *k}}\n"
    few = read_config(write(text)).strategies.few_shot
    assert few is not None
    assert few.seeds == (1, 2)
    bomb = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12))
    assert "very large" in mistake(write(bomb)).what
    assert "inside what it names" in mistake(write("prompts: &p {a: *p}\n")).what
    assert "too deep" in str(mistake(write("prompts: " + "[" * 5000)).found)


def test_a_prompt_of_the_wrong_kind(write: Any) -> None:
    error = mistake(write(GOOD + "prompts:\n  good: '{instruction}'\n  bad: 3\n"))
    assert error.what.startswith("`prompts.bad` can't be used")
    assert "line 17" in str(error.where)


def test_no_strategy_at_all(write: Any) -> None:
    error = mistake(write("strategies: {zero_shot: null}\n"))
    assert error.what == "`strategies` can't be used"
    assert error.expected == "at least one of zero_shot, few_shot, qlora and search"


# --- --set


def test_set_goes_over_the_file_and_the_file_over_the_defaults(write: Any) -> None:
    sets = [
        "tune.lr=5e-4",
        "tune.epochs=1",
        "strategies.qlora.prompt=emotional",
        "strategies.few_shot.k=[3, 4]",
        "model.revision=null",
        "prompts.mine=Say {instruction}: now",
        "tune.lr=2e-4",
    ]
    config = read_config(write(), sets)
    assert config.tune.lr == 2e-4  # the last one wins
    assert config.tune.epochs == 1.0
    assert config.tune.betas == (0.9, 0.95)
    assert config.strategies.qlora is not None
    assert config.strategies.qlora.prompt == "emotional"
    assert config.strategies.few_shot is not None
    assert config.strategies.few_shot.k == (3, 4)
    assert config.strategies.zero_shot is not None


def test_set_turns_a_strategy_off_and_reaches_into_a_bare_one(write: Any) -> None:
    assert read_config(write(), ["strategies.few_shot=null"]).strategies.few_shot is None
    path = write(GOOD.replace("  few_shot:\n    k: [1, 2]\n", "  few_shot:\n"))
    few = read_config(path, ["strategies.few_shot.k=[7]"]).strategies.few_shot
    assert few is not None
    assert few.k == (7,)


@pytest.mark.parametrize("text", ["tune.lr", "=3", " =3", ""])
def test_a_set_that_assigns_nothing(text: str, write: Any) -> None:
    error = mistake(write(), text)
    assert error.what == "a --set is not an assignment"
    assert error.where == f"--set {text}"
    assert "--set tune.epochs=1" in str(error.expected)


def test_a_set_that_is_not_yaml(write: Any) -> None:
    error = mistake(write(), "tune.betas=[0.9")
    assert (error.what, error.where, error.found) == (
        "a --set has a value that is not YAML",
        "--set tune.betas=[0.9",
        "[0.9",
    )


def test_a_set_into_a_value(write: Any) -> None:
    error = mistake(write(), "model.name.first=x")
    assert error.what == "a --set reaches into something that has no keys"
    assert error.found == "name: demo"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tune.lrr=1", "unknown key `tune.lrr`"),
        ("tunes.lr=1", "unknown key `tunes`"),
        ("tune.lr=-1", "`tune.lr` can't be used"),
        ("tune.betas=[1]", "`tune.betas.1` can't be used"),
        ("tune=5", "`tune` can't be used"),
        ("strategies.few_shot.k=two", "`strategies.few_shot.k.0` can't be used"),
    ],
)
def test_a_mistake_in_a_set_names_the_set(text: str, what: str, write: Any) -> None:
    error = mistake(write(), "tune.epochs=1", text)
    assert error.what == what
    assert error.where == f"--set {text}"


def test_a_mistake_in_the_file_does_not_name_a_set(write: Any) -> None:
    path = write(GOOD.replace("lr: 1.0e-3", "lr: -1"))
    assert mistake(path, "tune.epochs=1").where == f"{path}, line 13, key `tune.lr`"


# --- paths


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "exp.yaml"
    path.write_text(
        GOOD.replace("name: demo", "name: ../models/m") + "prompts:\n  own: own.txt\n  said: '{instruction}'\n"
    )
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("conf/exp.yaml"))
    assert Path(str(config.data.dir)).resolve() == tmp_path / "conf" / "rows"
    assert Path(config.model.name).resolve() == tmp_path / "models" / "m"
    assert Path(str(config.prompts["own"])).resolve() == tmp_path / "conf" / "own.txt"
    assert config.prompts["said"] == "{instruction}"


def test_paths_of_a_set_are_relative_to_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "exp.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    config = read_config(Path("conf/exp.yaml"), ["data.dir=elsewhere", "model.name=./m", "prompts.own=own.txt"])
    assert (config.data.dir, config.model.name, config.prompts["own"]) == ("elsewhere", "./m", "own.txt")


def test_a_model_folder_beside_the_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "models" / "foo").mkdir(parents=True)
    (tmp_path / "conf" / "demo").mkdir()
    path = tmp_path / "conf" / "exp.yaml"
    monkeypatch.chdir(tmp_path)
    for name, meant in (("models/foo", "conf/models/foo"), ("models/bar", "models/bar"), ("demo", "demo")):
        path.write_text(GOOD.replace("name: demo", f"name: {name}"))
        assert read_config(Path("conf/exp.yaml")).model.name == meant


def test_a_sample_of_a_file_beside_the_configuration(write: Any, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("")
    config = read_config(write(GOOD.replace("dir: rows", "train: t.jsonl#500")))
    assert config.data.train == str(tmp_path / "t.jsonl#500")


def test_absolute_paths_hub_ids_and_the_sample_stay(write: Any) -> None:
    assert read_config(write(GOOD.replace("dir: rows", "dir: /abs/rows"))).data.dir == "/abs/rows"
    assert read_config(write(GOOD.replace("dir: rows", "dir: sample"))).data.dir == "sample"
    assert read_config(write(GOOD.replace("name: demo", "name: owner/model"))).model.name == "owner/model"


def test_files_without_a_folder_are_beside_the_configuration_if_they_are_there(write: Any, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[]")
    config = read_config(write(GOOD.replace("dir: rows", "train: t.json\n  test: owner/hub-set")))
    assert config.data.train == str(tmp_path / "t.json")
    assert config.data.test == "owner/hub-set"
    other = read_config(tmp_path / "exp.yaml", ["data.dir=/elsewhere"])
    assert (other.data.dir, other.data.train) == ("/elsewhere", "t.json")


def test_settings_that_come_from_options_name_the_command_line() -> None:
    with pytest.raises(ConfigError) as caught:
        validated({"tune": {"lr": -1.0}}, "the command line")
    assert caught.value.where == "the command line, key `tune.lr`"


NAMED, KS, SEEDS = "p" * 300, list(range(1, 500)), list(range(500))
LATE = {
    f"tune: {{seed: {2**70}}}": ("tune.seed", "9223372036854775807"),
    "tune: {betas: [2, 2]}": ("tune.betas", "below 1"),
    "tune: {lr: .nan}": ("tune.lr", "finite"),
    "tune: {eps: .inf}": ("tune.eps", "finite"),
    "tune: {alpha: 1.0e+30}": ("tune.alpha", "1000000"),
    "tune: {max_grad_norm: .inf}": ("tune.max_grad_norm", "finite"),
    "tune: {lr: 1, weight_decay: 2}": ("tune", "weight_decay"),
    "tune: {target_modules: []}": ("tune.target_modules", "at least one"),
    f"tune: {{batch_size: {10**30}}}": ("tune.batch_size", "1000000000"),
    "generate: {top_p: 0.5}": ("generate.top_p", "greedy"),
    "generate: {top_k: 5}": ("generate.top_k", "greedy"),
    "generate: {beams: 2, temperature: 1}": ("generate.beams", "one of the two"),
    "generate: {no_repeat_ngram: 1}": ("generate.no_repeat_ngram", "2 or more"),
    "generate: {temperature: .nan}": ("generate.temperature", "finite"),
    "generate: {temperature: 1000}": ("generate.temperature", "100"),
    f"generate: {{seed: {2**64}}}": ("generate.seed", "9223372036854775807"),
    "strategies: {zero_shot: {prompts: [default, default]}}": ("strategies.zero_shot.prompts", "once"),
    "strategies: {few_shot: {prompts: [default, default]}}": ("strategies.few_shot.prompts", "once"),
    "strategies: {qlora: {score: [{prompts: [default, default]}]}}": ("strategies.qlora.score.0.prompts", "once"),
    "strategies: {search: {prompts: [default, default]}}": ("strategies.search.prompts", "once"),
    "strategies: {search: {k: [-1]}}": ("strategies.search.k", "0 or more"),
    "strategies: {qlora: {score: [{k: [-1]}]}}": ("strategies.qlora.score.0.k", "0 or more"),
    "strategies: {few_shot: {select: same}}": ("strategies.few_shot.select", "demos.column"),
    "strategies: {qlora: {trained_k: 1, trained_select: same}}": ("strategies.qlora.trained_select", "demos.column"),
    "strategies: {qlora: {score: [{k: 1, select: same}]}}": ("strategies.qlora.score.0.select", "demos.column"),
    "strategies: {search: {}}": ("data.dev_rows", "search"),
    "tune: {select: dev}": ("tune.select", "data.dev_rows"),
    f"prompts: {{{NAMED}: '{{instruction}}'}}": ("prompts.", "100 bytes"),
    f"strategies: {{qlora: {{prompt: {NAMED}}}}}": ("strategies.qlora.prompt", "100 bytes"),
    "strategies: {few_shot: {seeds: [-1]}}": ("strategies.few_shot.seeds", "from 0"),
    f"strategies: {{few_shot: {{seeds: [{2**63}]}}}}": ("strategies.few_shot.seeds", "from 0"),
    "data: {derive: {a: {b: '('}}}": ("data.derive", "not a regular expression"),
    "data: {columns: {answer: a}}": ("data.columns", "no part of a row"),
    "model: {device: gpu}": ("model.device", "cuda"),
    "model: {dtype: bf16}": ("model.dtype", "'bfloat16'"),
    f"model: {{threads: {10**20}}}": ("model.threads", "4096"),
    f"strategies: {{zero_shot: {{prompts: [{NAMED}]}}}}": ("strategies.zero_shot.prompts.0", "100 bytes"),
    f"strategies: {{few_shot: {{k: {KS}, seeds: {SEEDS}}}}}": ("strategies", "100,000"),
}


@pytest.mark.parametrize("text", LATE)
def test_what_would_fail_late_is_found_on_reading(write: Any, text: str) -> None:
    key, expected = LATE[text]
    error = mistake(write(text))
    assert key in (error.where or "")
    assert expected in f"{error.found} {error.expected} {error.fix}"
    assert len(str(error)) < 1500


def test_what_goes_together_is_read(write: Any) -> None:
    drawn = "generate: {temperature: 0.7, top_p: 0.5, top_k: 5}\n"
    assert read_config(write(drawn)).generate == GenerateConfig(temperature=0.7, top_p=0.5, top_k=5)
    read_config(write("strategies: {few_shot: {select: same}, demos: {column: kind}}\n"))
    read_config(write("strategies: {zero_shot: true}\ntune: {select: dev}\n"))  # nothing is trained
    dev = read_config(write("strategies: {search: {}, qlora: {}}\ntune: {select: dev}\ndata: {dev_rows: 4}\n"))
    assert (dev.tune.select, dev.data.dev_rows) == ("dev", 4)


def test_options_name_themselves() -> None:
    with pytest.raises(ConfigError) as caught:
        from_options(ModelConfig, name="demo", device="gpu")
    assert (caught.value.where, caught.value.expected) == ("--device", "auto, cpu, cuda or cuda:N")
    with pytest.raises(ConfigError) as caught:
        from_options(GenerateConfig, top_p=2.0, max_new_tokens=0)
    assert "--max-new-tokens, key `max_new_tokens`: 0" in str(caught.value.found)
    assert "--top-p, key `top_p`: 2.0" in str(caught.value.found)


def test_a_configuration_that_is_too_large_is_not_parsed(write: Any) -> None:
    path = write("a: [" + "1, " * 17_000_000 + "1]\n")
    begin = time.monotonic()
    error = mistake(path)
    assert time.monotonic() - begin < 2
    assert "250,000" in (error.expected or "")
    assert mistake(Path("/dev/zero")).what == "the configuration file is too large"


def test_half_a_character_in_a_setting(write: Any) -> None:
    error = mistake(write('data:\n  dir: "a\\ud800"\n'))
    assert error.what == "a text holds half a character"
    assert "line 2" in (error.where or "")


NO_ROW = {"datasets", "test_datasets"}  # their paths have one


def test_every_key_of_another_tool_names_one_of_ours_and_is_in_the_docs() -> None:
    described = schema()
    table = (Path(__file__).parents[2] / "docs" / "how-to" / "from-other-tools.md").read_text(encoding="utf-8")
    assert not [
        key
        for theirs in _OTHER_TOOLS.values()
        for key in theirs.split()
        if f"`{key}`" not in table and f"`{key}:" not in table and key not in NO_ROW
    ]
    for section, _, name in (ours.partition(".") for ours in _OTHER_TOOLS):
        reference = described["properties"][section]["$ref"].rsplit("/", 1)[-1]
        assert name in described["$defs"][reference]["properties"], (section, name)
