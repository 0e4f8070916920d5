"""Trying torch and bitsandbytes: what is found where they work, and where they don't."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from triptych.doctor import device as doctor
from triptych.doctor.device import device_findings, devices, four_bit_error
from triptych.models.device import matmul_rate


def test_every_device_is_looked_at() -> None:
    findings = list(device_findings())
    for device in devices():
        for what in ("memory", "4-bit", "speed"):
            assert [f.status for f in findings if f.what == f"{what}, {device}"], (what, device)
    assert torch.__version__ in findings[0].found


@pytest.mark.parametrize("device", devices(), ids=str)
def test_a_real_four_bit_product(device: torch.device) -> None:
    assert 0 <= four_bit_error(device) < 0.02


def test_a_wrong_four_bit_product_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda x, *_, **__: x.new_zeros(8, 256))
    finding = doctor._four_bit(torch.device("cpu"))
    assert finding.status == "failure"
    assert "1.0e+00" in finding.found
    assert "hold: dequantized" in finding.to_do


def test_nan_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda x, *_, **__: x.new_full((8, 256), float("nan")))
    assert doctor._four_bit(torch.device("cpu")).status == "failure"


@pytest.mark.parametrize("error", [RuntimeError("no binary for this device"), OSError("libbitsandbytes.so")])
def test_a_library_that_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", broken)
    finding = doctor._four_bit(torch.device("cpu"))
    assert finding.status == "failure"
    assert str(error) in finding.found
    assert "quantize: none" in finding.to_do


@pytest.mark.parametrize(
    ("free", "status"), [(0.5, "failure"), (2, "warning"), (16, "ok")], ids=["none", "little", "enough"]
)
def test_memory(monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda _: int(free * (1 << 30)))
    finding = doctor._memory(torch.device("cpu"))
    assert finding.status == status
    assert f"{free:.1f} of" in finding.found
    assert bool(finding.to_do) == (status != "ok")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a torch without a GPU")
def test_a_card_that_torch_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._gpu().status == "ok"
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: [("NVIDIA T4", "550.1")])
    finding = doctor._gpu()
    assert finding.status == "warning"
    assert "NVIDIA T4" in finding.found
    assert "install a torch" in finding.to_do


def test_matmul_rate_is_a_rate_and_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    assert 1e8 < matmul_rate(torch.device("cpu"), "float32", seconds=0.05) < 1e14
    assert torch.equal(before, torch.get_rng_state())
