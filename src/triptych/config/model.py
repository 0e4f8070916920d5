"""The section `model`: which model, and how it is loaded. `models.load_model` takes it as it is."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from triptych.config.choices import Dtype, Hold, Quantize
from triptych.config.section import Section

_DEVICE = re.compile(r"auto|cpu|mps|xpu|cuda(:\d{1,3})?")


class ModelConfig(Section):
    """Which model, and how it is loaded."""

    name: str = "demo"
    """Hub id, folder, `.gguf` file, or a bundled model: `demo` or `demo-chat`."""
    revision: str | None = None
    """Commit or tag of a hub id."""
    quantize: Quantize = "nf4"
    double_quant: bool = True
    dtype: Dtype = "auto"
    device: str = "auto"
    hold: Hold = "auto"
    """How NF4 weights are stored: dequantized once (same values, faster) or packed (less memory)."""
    threads: int | None = Field(None, ge=1, le=4096)
    """CPU threads; null measures."""
    allow_pickle: bool = False
    """Read pickled weights (pytorch_model*.bin) where there are no safetensors. A pickle can run code when read."""

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("auto, cpu, cuda or cuda:N")
        return value
