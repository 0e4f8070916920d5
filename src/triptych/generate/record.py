"""A finished file of predictions and the record beside it, which says what made it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.data import read_rows
from triptych.errors import DataError, RunChangedError, TemplateError
from triptych.generate.check import Check, check_predictions, read_predictions
from triptych.generate.resume_file import refuse_changed
from triptych.generate.settings import Generated
from triptych.generate.stops import patterns_of
from triptych.prompts import Template, template_from_mapping
from triptych.records import SCHEMA_VERSION
from triptych.records.disk import sha256_of_file
from triptych.records.store import read_json, write_json, write_text

_SPECIAL_CHARACTERS = 3
_TEXTS = ("zero_shot", "few_shot", "preamble", "style")


def record_of(out: Path) -> Path:
    """Path of the record of a file of predictions."""
    return out.with_name(out.name.removesuffix(".json") + ".record.json")


def is_record(path: Path) -> bool:
    """Whether a file is the record of a file of predictions."""
    try:
        value: Any = read_json(path)
    except (DataError, OSError):
        return False
    return isinstance(value, dict) and {"schema_version", "out_sha256", "rows"} <= value.keys()


def is_predictions(out: Path) -> bool:
    """Whether a file has a record of predictions; `finished_rows` checks whether it is what was written."""
    return is_record(record_of(out))


def write_predictions(out: Path, rows: Sequence[Generated], record: Mapping[str, Any]) -> None:
    """Write `[{"id", "output"}]` in the order given, and the record with the file's hash and what ended each row.

    Each file is written whole or not at all.
    """
    texts = [{"id": row.row_id, "output": row.text} for row in rows]
    write_text(out, json.dumps(texts, ensure_ascii=False, indent=1) + "\n")
    ends = [{"id": row.row_id, "n_tokens": row.n_tokens, "stopped_by": row.stopped_by} for row in rows]
    header = {"schema_version": SCHEMA_VERSION, "out_sha256": sha256_of_file(out)}
    write_json(record_of(out), {**header, **record, "rows": ends})


def finished_rows(out: Path, facts: Mapping[str, Any], *, fix: str | None = None) -> list[Generated]:
    """The predictions of an existing file, if they were made with these facts. `fix`: how to write them anew.

    Raises:
        RunChangedError: they are another run's, or were changed since.
    """
    path = record_of(out)
    try:
        record: dict[str, Any] = read_json(path)
        held, sha256 = dict(record["facts"]), record["out_sha256"]
    except (DataError, LookupError, TypeError, ValueError) as error:
        raise RunChangedError(
            "there is a file already, and no record of how it was made",
            where=str(out),
            expected=f"{path.name} beside it, or no file",
            fix=fix or "replace it with --fresh, or choose another file with --out",
        ) from error
    refuse_changed(out, {key: held.get(key) for key in facts}, facts, fix=fix)
    if sha256_of_file(out) != sha256:
        raise RunChangedError(
            "these predictions were changed after they were written",
            where=str(out),
            fix=fix or "write them again with --fresh, or choose another file with --out",
        )
    texts = dict(read_predictions(out))
    return [Generated(row["id"], texts[row["id"]], row["n_tokens"], row["stopped_by"]) for row in record["rows"]]


def check_file(path: Path, data: str, limit: int | None = None) -> Check:
    """Check a file of predictions; its record, if it has one, has what ended each row, and the prompt.

    Raises:
        DataError: the file is no list of predictions, or the data can't be read.
    """
    rows = read_rows(data, need_output=False)[:limit]
    predictions = read_predictions(path)
    try:
        record: Any = read_json(record_of(path))
        same = record["out_sha256"] == sha256_of_file(path)  # else texts were changed since
        ends = {row["id"]: row["stopped_by"] for row in record["rows"]} if same else {}
        prompt, special = record["provenance"]["prompt"], special_texts_of(path)
        mapping = {key: prompt[key] for key in _TEXTS if key in prompt}
        texts = prompt_texts(template_from_mapping(mapping, name="", where=str(path)))
        chat = prompt.get("style", "plain") != "plain" or "chat_template_sha256" in record["provenance"]["model"]
    except (DataError, TemplateError, LookupError, TypeError):
        ends, texts, special, chat = {}, [], [], False
    return check_predictions(predictions, rows, stopped_by=ends, special=special, prompt_texts=texts, chat=chat)


def special_texts(tokenizer: Any) -> list[str]:
    """A tokenizer's special tokens, as no output should have them; one or two characters are also ordinary text."""
    tokens = {str(token) for token in tokenizer.all_special_tokens}
    return sorted(token for token in tokens if len(token.strip()) >= _SPECIAL_CHARACTERS)


def special_texts_of(out: Path) -> list[str]:
    """The special tokens of the model that wrote a file of predictions, as its record has them."""
    special: list[str] = read_json(record_of(out))["provenance"].get("special_texts", [])
    return special


def prompt_texts(template: Template) -> list[re.Pattern[str]]:
    """What a template has around instructions, with and without demonstrations: no output should have it."""
    return [re.compile(p) for shots in (0, 1) for p in patterns_of(template, shots=shots) if p.replace("\\\n", "")]
