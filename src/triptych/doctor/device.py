"""What `triptych doctor` tries of torch, devices and bitsandbytes: by doing it, not by looking at version numbers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from triptych.config.executor import cores
from triptych.models.device import choose_dtype, free_memory, matmul_rate

Status = Literal["ok", "warning", "failure"]

_LITTLE_MEMORY, _NO_MEMORY = 4 << 30, 1 << 30  # the demo model scores in 1.5 GiB and trains in 2
_CLOSE = 0.02  # relative error of a 16-bit product
_UPGRADE = "pip install --upgrade bitsandbytes; until then use"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, the result, and what to do about it."""

    status: Status
    what: str
    found: str
    to_do: str = ""


def device_findings() -> Iterator[Finding]:
    """torch, GPUs, and of each device its memory, a 4-bit product and its speed in float32."""
    yield _torch()
    yield _gpu()
    for device in devices():
        yield _memory(device)
        yield _four_bit(device)
        yield _speed(device)


def devices() -> list[torch.device]:
    """The CPU, and every CUDA device that torch sees."""
    return [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]


def _torch() -> Finding:
    n_cores = cores()
    built = [
        f"{kind} {version}" for kind, version in (("CUDA", torch.version.cuda), ("ROCm", torch.version.hip)) if version
    ]
    build, threads = ", ".join(built) or "CPU", torch.get_num_threads()
    found = f"{torch.__version__}, built for {build}; {threads} threads, {n_cores} cores"
    if threads > n_cores:
        return Finding("warning", "torch", found, f"set OMP_NUM_THREADS={n_cores}, or model.threads")
    return Finding("ok", "torch", found)


def _gpu() -> Finding:
    cards = _nvidia_smi()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        driver = f", driver {cards[0][1]}" if cards else ""
        return Finding("ok", "GPU", f"{', '.join(names)}{driver}")
    if not cards:
        return Finding("ok", "GPU", "none: the CPU is used")
    if torch.version.cuda is None:
        to_do = "install a torch built for CUDA (pytorch.org, Get Started) to use it"
        return Finding("warning", "GPU", f"{cards[0][0]} is here, and this torch is built for the CPU", to_do)
    found = f"{cards[0][0]}, driver {cards[0][1]}, is here, and torch can't use it"
    to_do = f"update the driver to one for CUDA {torch.version.cuda}, or install a torch for an older CUDA"
    return Finding("warning", "GPU", found, to_do)


def _nvidia_smi() -> list[tuple[str, str]]:
    """(name, driver version) of each NVIDIA card that the system has, torch or not."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):  # among them: there is no such program
        return []
    cards = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 1]
    return [(name.strip(), driver.strip()) for name, driver in cards]


def _memory(device: torch.device) -> Finding:
    free = free_memory(device)
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1]
    else:
        import psutil

        total = psutil.virtual_memory().total
    what, found = f"memory, {device}", f"{free / (1 << 30):.1f} of {total / (1 << 30):.1f} GiB free"
    if free < _NO_MEMORY:
        return Finding("failure", what, found, "end other programs: even the demo model needs 1.5 GiB")
    if free < _LITTLE_MEMORY:
        return Finding("warning", what, found, "`triptych plan CONFIG` says whether an experiment fits")
    return Finding("ok", what, found)


def _four_bit(device: torch.device) -> Finding:
    what = f"4-bit, {device}"
    try:
        import bitsandbytes

        error = four_bit_error(device)
        version = bitsandbytes.__version__
    except Exception as problem:  # its native library may raise anything
        lines = str(problem).strip().splitlines()
        found = f"bitsandbytes doesn't work: {lines[0] if lines else type(problem).__name__}"
        return Finding("failure", what, found, f"{_UPGRADE} `model.quantize: none`")
    found = f"bitsandbytes {version}: an NF4 product is within {error:.1e} of the dequantized one"
    if not error < _CLOSE:  # NaN is not close
        return Finding("failure", what, found, f"{_UPGRADE} `model.hold: dequantized`")
    return Finding("ok", what, found)


def four_bit_error(device: torch.device) -> float:
    """Relative difference between a product with packed NF4 weights and one with the weights dequantized.

    Raises:
        RuntimeError: NF4 lost the weights; and all that bitsandbytes raises.
    """
    import bitsandbytes as bnb
    from bitsandbytes import functional as packing

    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
    weight = torch.randn(256, 512, generator=generator).to(device, dtype)
    x = torch.randn(8, 512, generator=generator).to(device, dtype)
    packed, state = packing.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    values: Any = packing.dequantize_4bit(packed, state)
    lost = _relative(values, weight)
    if not 0.01 < lost < 0.2:  # NF4 of normal weights loses about 9 %
        raise RuntimeError(f"NF4 changed normal weights by {lost:.0%}, not by about 9 %")
    product: Any = bnb.matmul_4bit(x, packed.t(), quant_state=state)
    return _relative(product, x.float() @ values.float().t())


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a.float() - b.float()).norm() / b.float().norm()).item())


def _speed(device: torch.device) -> Finding:
    rate = matmul_rate(device, "float32", seconds=0.25)
    dtype, _ = choose_dtype("auto", device)
    return Finding("ok", f"speed, {device}", f"{rate / 1e9:,.0f} GFLOP/s in float32; `dtype: auto` is {dtype} here")
