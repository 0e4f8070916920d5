"""What is wrong with settings, said all at once: file, line, key, what was found, what was expected, what was meant."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from triptych.config.experiment import ExperimentConfig
from triptych.config.yaml_file import line_of
from triptych.errors import ConfigError

_EXPECTED = {
    "missing": "a value",
    "tuple_type": "a list, e.g. [a, b]",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text, in quotes if it looks like a number or a date",
    "invalid_key": "a key that is text",
    "string_pattern_mismatch": "letters, digits, `_`, `-` and `.`, the first a letter, digit or `_`",
}
_BRANCH = re.compile(r"(tuple|list|dict|literal|nullable|constrained-\w+|function-\w+)\[")
_OTHER_TOOLS = {
    "model.name": "base_model model_name_or_path",
    "model.revision": "revision_of_model model_revision",
    "model.quantize": "load_in_4bit load_in_8bit quantization_bit",
    "model.double_quant": "double_quantization",
    "data.train": "dataset datasets",
    "data.test": "test_datasets eval_dataset",
    "data.train_rows": "max_samples",
    "tune.lr": "learning_rate",
    "tune.schedule": "lr_scheduler lr_scheduler_type",
    "tune.warmup": "warmup_ratio",
    "tune.r": "lora_r lora_rank",
    "tune.alpha": "lora_alpha",
    "tune.dropout": "lora_dropout",
    "tune.target_modules": "lora_target lora_target_modules",
    "tune.lora_plus_ratio": "loraplus_lr_ratio",
    "tune.use_dora": "peft_use_dora",
    "tune.use_rslora": "peft_use_rslora",
    "tune.epochs": "num_epochs num_train_epochs",
    "tune.batch_size": "micro_batch_size per_device_train_batch_size",
    "tune.accumulation": "gradient_accumulation_steps",
    "tune.max_tokens": "sequence_len cutoff_len",
    "tune.eval_every": "eval_steps",
    "tune.checkpoint_every": "save_steps",
    "tune.keep": "save_total_limit",
    "tune.eps": "adam_epsilon",
}
"""Our key -> what axolotl and LLaMA-Factory call it, no key of ours among them (docs/how-to/from-other-tools.md)."""
_NAMED = 10
_NEAR, _PERHAPS = 0.75, 0.5
"""How alike a key must be to be meant; and to be worth a guess when nothing else is known."""


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field's annotation means, alone or with null; None for plain values."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


@dataclass(frozen=True)
class _Mistake:
    """One setting that can't be used."""

    key: str
    line: int
    given_by: str | None
    """The `--set` that gave it."""
    unknown: bool
    found: str | None
    expected: str
    fix: str | None

    def in_one_line(self, *, has_lines: bool) -> str:
        place = self.given_by or (f"line {self.line}" if has_lines else "")
        what = "unknown" if self.unknown else f"{self.found}, expected {self.expected}"
        return f"{place}{', ' if place else ''}key `{self.key}`: {what}" + (f"; {self.fix}" if self.fix else "")


def all_mistakes(
    error: ValidationError, source: str, node: yaml.Node | None, origins: Mapping[str, str]
) -> ConfigError:
    """One error on all that is wrong, in the order of the file; of one key only the first complaint counts."""
    mistakes = {mistake.key: mistake for mistake in reversed(list(_mistakes(error, node, origins)))}
    ordered = sorted(mistakes.values(), key=lambda mistake: mistake.line)
    has_lines = node is not None
    if len(ordered) == 1:
        one = ordered[0]
        what = f"unknown key `{one.key}`" if one.unknown else f"`{one.key}` can't be used"
        return ConfigError(
            what if one.key else "the configuration can't be used",
            where=one.given_by or f"{source}{f', line {one.line}' if has_lines else ''}, key `{one.key}`",
            found=one.found,
            expected=one.expected,
            fix=one.fix,
        )
    lines = [mistake.in_one_line(has_lines=has_lines) for mistake in ordered[:_NAMED]]
    more = [f"… and {len(ordered) - _NAMED} more"] if len(ordered) > _NAMED else []
    return ConfigError(
        f"{len(ordered)} settings can't be used",
        where=source,
        found="\n    ".join(["", *lines, *more]),
        fix="correct them all; `triptych config schema` has every key with its type",
    )


def _mistakes(error: ValidationError, node: yaml.Node | None, origins: Mapping[str, str]) -> Iterator[_Mistake]:
    for problem in error.errors(include_url=False):
        location = _location(problem["loc"], is_key=problem["type"] == "extra_forbidden")
        key = short(".".join(map(str, location)))[1:-1]
        given_by = next((text for name, text in origins.items() if f"{key}.".startswith(f"{name}.")), None)
        given_by = given_by or next((text for name, text in origins.items() if name.startswith(f"{key}.")), None)
        line = line_of(node, location)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(location[:-1])
            yield _Mistake(key, line, given_by, True, None, ", ".join(known), _meant(location, known))
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected = _EXPECTED.get(problem["type"], message)
            yield _Mistake(key, line, given_by, False, short(problem.get("input")), expected, None)


def _location(parts: Sequence[str | int], *, is_key: bool) -> list[str | int]:
    """The key's parts, without the names that pydantic gives to the branches of a union."""
    last = len(parts) - 1
    plain = [part for at, part in enumerate(parts) if (is_key and at == last) or not _BRANCH.match(str(part))]
    return plain[:2] if plain[:1] == ["prompts"] else plain  # a template's own keys are checked where it is built


def _meant(location: Sequence[str | int], known: Sequence[str]) -> str:
    """What to do about an unknown key: the nearest of its section, the same of another, or what other tools call so."""
    name = str(location[-1])
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=_NEAR)
    if near:
        return f"did you mean `{near[0]}`?"
    elsewhere = next((key for key, theirs in _OTHER_TOOLS.items() if name in theirs.split()), None) or next(
        (f"{section}.{name}" for section, keys in _sections(ExperimentConfig, "") if name in keys), None
    )
    if elsewhere:
        return f"did you mean `{elsewhere}`?"
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=_PERHAPS)
    return f"did you mean `{near[0]}`?" if near else "remove it"


def _sections(model: type[BaseModel], at: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in model.model_fields.items():
        if inner := section_of(field.annotation):
            dotted = f"{at}.{name}" if at else name
            yield dotted, list(inner.model_fields)
            yield from _sections(inner, dotted)


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """Keys allowed in a section."""
    model: type[BaseModel] = ExperimentConfig
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        inner = section_of(annotation) or next(filter(None, map(section_of, typing.get_args(annotation))), None)
        model = inner or model
    return sorted(model.model_fields)


def short(value: Any) -> str:
    """A value for a message, at most 100 characters."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 100
    text = shortener.repr(value)
    return text if len(text) <= 100 else text[:97] + "…"
