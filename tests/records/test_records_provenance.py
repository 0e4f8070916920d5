"""Where a number was made: the GPU is named where torch is there to ask, and torch isn't loaded for it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from triptych.records.provenance import provenance


def test_torch_is_not_loaded_to_ask_for_a_gpu() -> None:
    code = "import sys, triptych.records.provenance as p; print(p.provenance()['accelerator'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "NVIDIA H200")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.0")))
    assert provenance()["accelerator"] == "NVIDIA H200, CUDA 13.0"
    cuda.is_available = lambda: False
    assert provenance()["accelerator"] is None
