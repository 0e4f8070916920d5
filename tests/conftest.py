"""What tests share. Nothing here imports torch before a test asks for a model: rows, prompts and records need none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import drawing

if TYPE_CHECKING:
    from triptych.models import LoadedModel

# before torch is loaded: tiny products gain nothing from threads and lose much on a shared machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRIPTYCH_ON", "local:1")  # in the test's own process, where its fakes are

pytest_plugins = ["tiny_experiment"]

settings.register_profile("triptych", deadline=None, max_examples=20)
settings.load_profile("triptych")


@pytest.hookimpl(tryfirst=True)  # before -m takes tests out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that are listed as slow are; and files whose tests take long come first, so that no worker is left with one
    of them at the end.
    """
    lines = (Path(__file__).parent / "slow_tests.txt").read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    found = [item for item in items if item.nodeid in listed]
    for item in found:
        item.add_marker(pytest.mark.slow)
    unknown = listed - {item.nodeid for item in found}
    if unknown and config.args == config.getini("testpaths"):
        raise pytest.UsageError(f"tests/slow_tests.txt names tests that are not there: {', '.join(sorted(unknown))}")
    items.sort(key=lambda item: item.path.parent.name not in ("training", "cli", "e2e", "docs"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test does is left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_CACHE", str(tmp_path_factory.mktemp("triptych-cache")))
        yield


@pytest.fixture(autouse=True)
def nothing_found_before(own_cache: None) -> None:
    """Every test's models are probed anew: a test may have changed the code that an earlier one tried."""
    (Path(os.environ["TRIPTYCH_CACHE"]) / "probes.json").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test that had more threads leaves none to the next ones: waiting threads take the other workers' cores."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """A kill loses nothing that was handed to the system; what `fsync` is for, a power cut, no test can make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def quickly_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans time the processor for a moment only: the rate is rough, and everything else about a plan is the same."""
    from triptych.plan import time as plan_time

    monkeypatch.setattr(plan_time, "matmul_rate", partial(plan_time.matmul_rate, seconds=0.01))


@pytest.fixture(scope="session", autouse=True)
def sketched_figures() -> Iterator[None]:
    """Reports have a file where a figure would be, except in tests that ask for `real_figures`."""
    with drawing.sketched():
        yield


@pytest.fixture
def real_figures() -> Iterator[None]:
    """Reports have their figures, as for a user."""
    with drawing.drawn():
        yield


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`fake_folder(architecture, uniform=...)`: a fake model's folder, written once a session. Don't change it."""
    import torch

    from fake_model import write_fake_model

    torch.set_num_threads(1)
    made: dict[Any, Path] = {}

    def folder(architecture: str = "llama", **options: Any) -> Path:
        key = (architecture, *sorted(options.items()))
        if key not in made:
            made[key] = write_fake_model(tmp_path_factory.mktemp(architecture), architecture, **options)  # type: ignore[arg-type]
        return made[key]

    return folder


@pytest.fixture(scope="session")
def load_fake(fake_folder: Callable[..., Path]) -> Callable[..., LoadedModel]:
    """`load_fake(architecture_or_folder, **spec)`: a fresh load, float32 and unquantized unless told."""
    from triptych.config.model import ModelConfig
    from triptych.models import load_model

    def load(source: str | Path = "llama", *, uniform: bool = False, **spec: Any) -> LoadedModel:
        folder = source if isinstance(source, Path) else fake_folder(source, uniform=uniform)
        options = {"quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1, **spec}
        return load_model(ModelConfig(name=str(folder), **options))

    return load
