"""Device, dtype and thread count, with the reason for each; the device's speed and free memory."""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from triptych.config.choices import Dtype, DtypeName
from triptych.config.executor import cores
from triptych.errors import ConfigError

DTYPES: dict[DtypeName, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: the first CUDA device, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "a CUDA device is asked for and none is available",
            where="model.device",
            found=name,
            fix="use `device: auto` or `cpu`, or install a torch built for your GPU",
        )
    return device


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say so that a process sees one GPU alone: an entry for each that is seen here."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def choose_dtype(name: Dtype, device: torch.device) -> tuple[DtypeName, str]:
    """The compute dtype and the reason for it.

    `auto` is bfloat16 where the processor multiplies it natively (read off its flags, not timed, so that the same
    machine always chooses the same), else float32.
    """
    if name != "auto":
        return name, "asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return "bfloat16", "auto: this GPU has bfloat16"
        return "float16", "auto: this GPU has no bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in flags:
            return "bfloat16", f"auto: this processor has {flag}"
    return "float32", "auto: this processor has no fast bfloat16"


def choose_threads(asked: int | None, dtype: torch.dtype) -> tuple[int, str]:
    """Set torch's thread count and say why.

    More threads are not always faster: on a machine shared with others, one waiting thread holds up all (seen: 1
    thread six times as fast as 2). So, where none is asked for, 1, half and all of the available cores are timed on a
    product of a transformer layer's shape, and the fastest wins. OMP_NUM_THREADS is the most that may be chosen: it is
    1 for the processes of torchrun, and for whoever runs many processes side by side.
    """
    most = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limited = most.isdecimal() and 0 < int(most) < cores()
    available = int(most) if limited else cores()
    if asked is not None:
        torch.set_num_threads(asked)
        return asked, "asked for"
    counts = sorted({1, max(1, available // 2), available})
    if len(counts) == 1:
        torch.set_num_threads(available)
        return available, "OMP_NUM_THREADS" if limited else "all there are"
    generator = torch.Generator().manual_seed(0)  # timing must not move the caller's random numbers
    a = torch.randn(1024, 1024, dtype=dtype, generator=generator)
    b = torch.randn(2048, 1024, dtype=dtype, generator=generator)
    samples: dict[int, list[float]] = {count: [] for count in counts}
    for round_ in range(6):
        for count in counts:
            torch.set_num_threads(count)
            began = time.perf_counter()
            torch.nn.functional.gelu(torch.nn.functional.linear(a, b))
            if round_:  # the first one warms up
                samples[count].append(time.perf_counter() - began)
    seconds = {count: statistics.median(values) for count, values in samples.items()}
    # a tie goes to more threads: only leave cores idle when it clearly pays
    best = max(counts, key=lambda count: (-round(seconds[count] / min(seconds.values()), 1), count))
    torch.set_num_threads(best)
    timed = ", ".join(f"{count}: {seconds[count] * 1e3:.1f} ms" for count in counts)
    return best, f"timed ({timed})"


def matmul_rate(device: torch.device, dtype: DtypeName, *, seconds: float = 0.3) -> float:
    """Operations a second of a product of a transformer layer's shape, timed for about `seconds`: models stay below."""
    generator = torch.Generator().manual_seed(0)
    size = 4096 if device.type == "cuda" else 1024
    a = torch.randn(size, size, generator=generator).to(device, DTYPES[dtype])
    b = torch.randn(2 * size, size, generator=generator).to(device, DTYPES[dtype])

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.nn.functional.linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    multiply(1)  # the first one warms up
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        multiply(4)
        done += 4
    return done * 2.0 * size * size * 2 * size / (time.perf_counter() - began)


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def trim_malloc() -> None:
    """Let the C library return freed memory to the system.

    glibc keeps freed blocks below 32 MB on its heap. Passes differ in size, so the gaps that one pass leaves are often
    too small for the next one, and a process that computes for an hour grows to several times of what it uses
    (docs/experiments.md, 11). Takes a fraction of a second after a training step. Does nothing without glibc.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        function: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
    return function
