"""Peak memory depends on the budget, not on the number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fake_model import write_fake_model

SCRIPT = """
import sys
from triptych.likelihood.score import Scorer
from triptych.config.model import ModelConfig
from triptych.models import load_model
from triptych.prompts import Rendered
def peak():  # VmHWM starts anew with the process; ru_maxrss would begin at the parent's peak
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
loaded = load_model(ModelConfig(name=sys.argv[1], quantize="none", dtype="float32", threads=1))
rows = [Rendered(str(i), (256, *((i * 7 + j * j) % 250 for j in range(300))), 150, 1) for i in range(int(sys.argv[2]))]
scorer = Scorer(loaded, budget_tokens=4096)
scorer.score(rows[:30])
before = peak()
scorer.score(rows)
print(before, peak())
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    write_fake_model(tmp_path / "model")
    peaks = {}
    for n in (60, 600):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "model"), str(n)], capture_output=True, text=True, check=True
        )
        peaks[n] = [int(x) / 1024 for x in done.stdout.split()]
    print(peaks)
    # 600 rows x 150 scored tokens are 0.4 MB of results; one [tokens, vocabulary] tensor of all rows would be 90 MB
    assert peaks[600][1] - peaks[60][1] < 25
