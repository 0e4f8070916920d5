"""Records can't be changed after the fact, and hold nothing that isn't in the schema."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from pydantic import ValidationError

from triptych.records import SCHEMA_VERSION, Aggregate, CellRecord, CurvePoint, ItemScore
from triptych.records.provenance import provenance

AGGREGATE = {"ppl_mean": 2.0, "ppl_corpus": 2.0, "ppl_geometric": 2.0, "bits_per_char": 1.0, "n_rows": 1, "n_tokens": 2}


def test_ppl_of_a_row_is_exp_of_nll_per_token() -> None:
    assert ItemScore("a", nll_nats=3.0, n_tokens=2, n_chars=1).ppl == math.exp(1.5)


def test_records_are_frozen() -> None:
    item, record = ItemScore("a", 3.0, 2, 1), Aggregate(**AGGREGATE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.nll_nats = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        record.ppl_mean = 1.0


def test_unknown_fields_and_strategies_are_refused() -> None:
    with pytest.raises(ValidationError):
        Aggregate(**AGGREGATE, ppl_median=2.0)
    with pytest.raises(ValidationError):
        CellRecord(cell="x", strategy="dpo", prompt="p", prompt_sha256="", aggregate=AGGREGATE, seconds=0)


def test_a_point_says_on_which_split() -> None:
    point = CurvePoint(
        step=0, epoch=0, rows_seen=0, split="dev", aggregate=AGGREGATE, train_loss=None, lr=0.1, seconds=0
    )
    assert CurvePoint.model_validate(json.loads(point.model_dump_json())) == point
    with pytest.raises(ValidationError):
        CurvePoint(**{**point.model_dump(), "split": "train"})


def test_provenance_says_which_code_and_machine() -> None:
    facts = provenance()
    assert {"triptych", "git", "python", "packages", "platform", "processor", "command", "at"} <= facts.keys()
    assert {"torch", "transformers", "peft"} <= facts["packages"].keys()
    json.dumps(facts, allow_nan=False)
    assert SCHEMA_VERSION >= 1
