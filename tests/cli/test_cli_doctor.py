"""`triptych doctor` as a user meets it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from triptych.doctor import doctor
from triptych.doctor.device import Finding


def test_this_machine(triptych: Any) -> None:
    done = triptych("doctor")
    assert done.code == (1 if "✗" in done.out else 0)
    named = ("python", "torch", "GPU", "memory, cpu", "4-bit, cpu", "speed, cpu", "fonts", "model demo-chat", "disk")
    for part in named:
        assert part in done.out
    assert done.out.count("✓ 4-bit, cpu") == 1


@pytest.mark.parametrize(("statuses", "code"), [(["ok", "warning"], 0), (["ok", "failure", "ok"], 1)])
def test_the_exit_code(triptych: Any, monkeypatch: pytest.MonkeyPatch, statuses: list[Any], code: int) -> None:
    made = [Finding(status, f"part {n}", "[found]", "do this") for n, status in enumerate(statuses)]
    monkeypatch.setattr(doctor, "diagnose", lambda: iter(made))
    done = triptych("doctor")
    assert done.code == code
    assert done.err == ""
    assert f"part {len(made) - 1}: [found]" in done.out  # goes on after a failure
    as_json = triptych("doctor", "--json")
    assert as_json.code == code
    assert json.loads(as_json.out)["ok"] is (code == 0)
    assert [f["status"] for f in json.loads(as_json.out)["findings"]] == statuses
