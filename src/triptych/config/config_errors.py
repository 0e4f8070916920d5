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
    "base_model": "model.name",
    "model_name_or_path": "model.name",
    "revision_of_model": "model.revision",
    "model_revision": "model.revision",
    "load_in_4bit": "model.quantize",
    "load_in_8bit": "model.quantize",
    "quantization_bit": "model.quantize",
    "double_quantization": "model.double_quant",
    "dataset": "data.train",
    "datasets": "data.train",
    "test_datasets": "data.test",
    "eval_dataset": "data.test",
    "max_samples": "data.train_rows",
    "learning_rate": "tune.lr",
    "lr_scheduler": "tune.schedule",
    "lr_scheduler_type": "tune.schedule",
    "warmup_ratio": "tune.warmup",
    "lora_r": "tune.r",
    "lora_rank": "tune.r",
    "lora_alpha": "tune.alpha",
    "lora_dropout": "tune.dropout",
    "lora_target": "tune.target_modules",
    "lora_target_modules": "tune.target_modules",
    "loraplus_lr_ratio": "tune.lora_plus_ratio",
    "peft_use_dora": "tune.use_dora",
    "peft_use_rslora": "tune.use_rslora",
    "num_epochs": "tune.epochs",
    "num_train_epochs": "tune.epochs",
    "micro_batch_size": "tune.batch_size",
    "per_device_train_batch_size": "tune.batch_size",
    "gradient_accumulation_steps": "tune.accumulation",
    "sequence_len": "tune.max_tokens",
    "cutoff_len": "tune.max_tokens",
    "eval_steps": "tune.eval_every",
    "save_steps": "tune.checkpoint_every",
    "save_total_limit": "tune.keep",
    "adam_epsilon": "tune.eps",
}
"""What axolotl and LLaMA-Factory call keys of ours, none of ours among them (docs/how-to/from-other-tools.md)."""
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

    def where(self, source: str, *, has_lines: bool) -> str:
        place = f"{source}, line {self.line}" if has_lines else source
        return self.given_by or f"{place}, key `{self.key}`"

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
            where=one.where(source, has_lines=has_lines),
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
        fix="mend them all; `triptych config schema` has every key with its type",
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
            yield _Mistake(key, line, given_by, False, short(problem.get("input")), _expected(problem), None)


def _location(parts: Sequence[str | int], *, is_key: bool) -> list[str | int]:
    """The key's parts, without the names that pydantic gives to the branches of a union.

    `is_key`: the last part is a key.
    """
    plain = [part for part in parts[:-1] if not _is_branch(part)]
    plain += [part for part in parts[-1:] if is_key or not _is_branch(part)]
    return plain[:2] if plain[:1] == ["prompts"] else plain  # a template's own keys are checked where it is built


def _is_branch(part: str | int) -> bool:
    return isinstance(part, str) and _BRANCH.match(part) is not None


def _expected(problem: Mapping[str, Any]) -> str:
    """What would have been right, in a user's words."""
    if problem["type"] in _EXPECTED:
        return _EXPECTED[problem["type"]]
    message: str = problem["msg"]
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _meant(location: Sequence[str | int], known: Sequence[str]) -> str:
    """What to do about an unknown key: the nearest of its section, the same of another, or what other tools call so."""
    name = str(location[-1])
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=_NEAR)
    if near:
        return f"did you mean `{near[0]}`?"
    elsewhere = _OTHER_TOOLS.get(name) or next(
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
