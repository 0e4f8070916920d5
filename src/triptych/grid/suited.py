"""What suits a model and its rows where nobody said what to use: prompts, and metrics in a configuration to begin with.

a run, a plan, a preview    `with_prompts` names the prompts that the settings don't name
score, predict              `suited_prompt` is the prompt of their one cell
triptych config init        `starter_choices` writes prompts and metrics into the file, to be seen and changed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.config.bundled import BUNDLED
from triptych.config.experiment import ExperimentConfig
from triptych.config.model import ModelConfig
from triptych.config.sources import SAMPLES, split_sample
from triptych.data import Row, load_dataset, outputs_of, read_rows, sample_folder
from triptych.data.language import Language, language_of
from triptych.errors import InputError
from triptych.metrics.options import are_classes
from triptych.progress import Reporter, Silent
from triptych.prompts.suited import SuitedPrompts, asks_for_classical, suited_prompts
from triptych.records.disk import is_there

_KEYS = {"zero_shot": "prompts", "few_shot": "prompts", "qlora": "prompt", "search": "prompts"}
"""Strategy -> its key for prompts."""
_LOOKED_AT = 200
"""Rows that tell the language, the first."""
_SPOKEN: dict[Language, str] = {"zh": "Chinese", "en": "English", "other": "neither Chinese nor English"}


def with_prompts(config: ExperimentConfig, reporter: Reporter | None = None) -> ExperimentConfig:
    """The settings, with prompts that suit the model and the rows for every strategy that names none.

    A model without chat template keeps the study's on Chinese rows. Where model or rows can't be read the settings stay
    as they are: what reads them next says why.
    """
    unnamed = _unnamed(config)
    if not unnamed:
        return config
    given = config.data
    try:
        data = load_dataset(
            train=None, test=given.test, folder=given.dir, train_rows=None, test_rows=None, columns=given.columns
        )
        chat = _has_chat_template(config.model)
    except InputError:
        return config
    language = _language(data.test)
    names = _by_strategy(suited_prompts(chat=chat, language=language, study=language == "zh"))
    sections = {}
    for strategy in unnamed:
        section, key = getattr(config.strategies, strategy), _KEYS[strategy]
        if getattr(section, key) != names[strategy]:
            sections[strategy] = section.model_copy(update={key: names[strategy]})
    if not sections:
        return config
    said = "; ".join(f"{strategy}: {', '.join(_as_tuple(names[strategy]))}" for strategy in sections)
    (reporter or Silent()).info(f"prompts that the settings don't name, for {_why(chat, language)}: {said}")
    return config.model_copy(update={"strategies": config.strategies.model_copy(update=sections)})


def suited_prompt(model: ModelConfig, rows: Sequence[Row], k: int, reporter: Reporter) -> str:
    """The prompt of one cell with k demonstrations over rows, where none is named: the study's, or one for the chat
    template that the model has. Where the model can't be looked at, what reads it next says why.
    """
    try:
        if not _has_chat_template(model):
            return "default"
    except InputError:
        return "default"
    language = _language(rows)
    names = suited_prompts(chat=True, language=language, study=False)
    name = names.few_shot if k else names.zero_shot[0]
    reporter.info(f"prompt `{name}`, as none is named, for {_why(True, language)}")
    return name


@dataclass(frozen=True)
class StarterChoices:
    """What `config init` writes beside what it was asked for."""

    prompts: dict[str, dict[str, str | list[str]]]
    """Strategy -> its key for prompts -> their names."""
    metrics: tuple[str, ...] = ()
    """Empty for the default."""
    notes: tuple[str, ...] = ()
    """What was chosen and why, a sentence each."""
    warnings: tuple[str, ...] = ()
    """What couldn't be looked at."""


def starter_choices(model: str | None, train: str | None, test: str | None) -> StarterChoices:
    """Look at the model and at rows that are files here (or bundled): data sets of the hub are not read for this."""
    notes: list[str] = []
    warnings: list[str] = []
    try:
        chat = _has_chat_template(ModelConfig(name=model or ModelConfig().name))
    except InputError as error:
        chat = False
        warnings.append(f"the model can't be looked at ({error.what}): the prompts are for one without chat template")
    if train in SAMPLES or (train is None and test is None):
        folder = sample_folder(train or SAMPLES[0])
        train, test = str(folder / "train.json"), str(folder / "test.json") if test in (None, train) else test
    trained, asked = _rows_of(train, warnings), _rows_of(test, warnings)
    rows = asked or trained
    language = _language(rows)
    study = language == "zh" and asks_for_classical(row.instruction for row in rows[:_LOOKED_AT])
    names = _by_strategy(suited_prompts(chat=chat, language=language, study=study))
    prompts = {name: {_KEYS[name]: value if isinstance(value, str) else list(value)} for name, value in names.items()}
    notes.append(f"prompts are for {_why(chat, language if rows else None)}")
    metrics: tuple[str, ...] = ()
    outputs = outputs_of(trained)
    if are_classes(outputs):
        metrics = ("accuracy", "perplexity")
        found = f"{len(outputs)} distinct outputs in {len(trained):,} training rows"
        notes.append(f"metrics are accuracy and perplexity: {found} look like classes")
    return StarterChoices(prompts, metrics, tuple(notes), tuple(warnings))


def _has_chat_template(spec: ModelConfig) -> bool:
    """Of a bundled model it is known, and no library of models is loaded to find it out."""
    if bundled := BUNDLED.get(spec.name):
        return bundled.has_chat_template
    from triptych.models.header import has_chat_template

    return has_chat_template(spec)


def _unnamed(config: ExperimentConfig) -> list[str]:
    """The strategies that name no prompts, unless the settings define the ones they would have by default."""
    found = []
    for strategy, key in _KEYS.items():
        section = getattr(config.strategies, strategy)
        if section is not None and key not in section.model_fields_set:
            default = getattr(section, key)
            if not set(_as_tuple(default)) & config.prompts.keys():
                found.append(strategy)
    return found


def _by_strategy(suited: SuitedPrompts) -> dict[str, str | tuple[str, ...]]:
    """What the key for prompts of each strategy is set to."""
    return {
        "zero_shot": suited.zero_shot,
        "few_shot": (suited.few_shot,),
        "qlora": suited.trained,
        # without demonstrations, the prompt for those is the plainest one
        "search": (suited.few_shot, *suited.zero_shot[1:]),
    }


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _language(rows: Sequence[Row]) -> Language:
    return language_of(row.instruction for row in rows[:_LOOKED_AT])


def _why(chat: bool, language: Language | None) -> str:
    model = "a model with a chat template" if chat else "a model without chat template"
    return f"{model}, {f'rows in {_SPOKEN[language]}' if language else 'rows that are not looked at'}"


def _rows_of(source: str | None, warnings: list[str]) -> list[Row]:
    """The rows of a file that is here; none otherwise, and where it can't be read a warning says so."""
    if source is None or not is_there(split_sample(source)[0], Path.is_file):
        return []
    try:
        return read_rows(source, need_output=False)
    except InputError as error:
        warnings.append(f"{source} can't be looked at: {error.what}")
        return []
