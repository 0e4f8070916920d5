"""`triptych data check` of a million rows: its peak memory is under five times the file's size.

Rows of some 60 bytes can't be held in that (a Python string alone takes 50 bytes more than its text): there the test is
that a million rows which are all nearly equal take no more than 1.5 kB each, pairs included.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import resource, subprocess, sys
command = [sys.executable, "-m", "triptych", "data", "check", "--json", sys.argv[1]]
done = subprocess.run(command, stdout=subprocess.PIPE)
assert done.returncode == 0
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_of(path: Path) -> int:
    done = subprocess.run([sys.executable, "-c", COMMAND, path], capture_output=True, text=True, check=True)
    peak, size = int(done.stdout) * 1024, path.stat().st_size
    print(f"peak {peak / 1e6:.0f} MB for a file of {size / 1e6:.0f} MB: {peak / size:.2f} times its size")
    return peak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_million_short_rows_that_are_nearly_equal(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = ({"instruction": f"please rewrite {n}", "output": f"out {n}"} for n in range(1_000_000))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert peak_of(path) < 1.5e9


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_million_rows(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(1_000_000):
            said = draw.choices(words, k=40)
            row = {"id": f"r{n}", "instruction": "Rewrite: " + " ".join(said[:22]), "output": " ".join(said[22:])}
            file.write(json.dumps(row) + "\n")
    assert peak_of(path) < 5 * path.stat().st_size
