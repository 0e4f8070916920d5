"""Valid files, broken at random: what the fuzz tests of the data and configuration readers share.

`TRIPTYCH_FUZZ_SECONDS` is how long the slow forms run together (300 by default, a third each for data files,
configurations and templates); `TRIPTYCH_FUZZ_SECONDS=3 pytest -m slow -k fuzz` is a short sample. The seed is printed,
and taken from `TRIPTYCH_FUZZ_SEED` to repeat a run.
"""

from __future__ import annotations

import os
import random
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from triptych.errors import InputError

VALUES = [
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b'""', b"[]", b"{}", b"''", b"9" * 400, b"2024-01-01", b"0x"),
    *(b"!!binary aa", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\x00", b"\xef\xbb\xbf", b"\r", b"\n\n", b"&a", b"*a"),
    *(b"<<: *a", b"%TAG", b"---", b"!!python/object:os.system", b"? ", b": ", b"- ", b"|", b">", b"#", b"\t", b","),
    *(b'"', b"'", b"\xe2\x80\xa8", b"[" * 200, b"{" * 200, b"!!set {a, b}", b"!!timestamp 1", b"1:2:3", b"=", b"~"),
    *(b"@", b"`", b"\x85"),
]


def broken(content: bytes, draw: random.Random) -> bytes:
    """The content after one to four random changes."""
    for _ in range(draw.choice([1, 1, 2, 4])):
        content = draw.choice(CHANGES)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 20])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] if draw.random() < 0.7 else content[at:]


def _drop(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + content[at + draw.randrange(30) :]


def _double(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[: at + draw.randrange(60)] + content[at:]


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _indent(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    lines[at] = draw.choice([b"  " + lines[at], lines[at].lstrip(), b"\t" + lines[at]])
    return b"\n".join(lines)


def _replace(content: bytes, draw: random.Random) -> bytes:
    """A word or number for something else."""
    words = list(re.finditer(rb"[\w.]+", content))
    if not words:
        return content
    word = draw.choice(words)
    other = draw.choice(words).group() if draw.random() < 0.4 else draw.choice(VALUES)
    return content[: word.start()] + other + content[word.end() :]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(VALUES) + content[at:]


CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _flip, _cut, _drop, _double, _swap_lines, _indent, _replace, _replace, _insert,
)  # fmt: skip


def seconds() -> float:
    """How long one of the three slow forms runs."""
    return float(os.environ.get("TRIPTYCH_FUZZ_SECONDS", "300")) / 3


def fuzz(
    seeds: dict[str, bytes], read: Callable[[Path], object], folder: Path, *, times: int = 0, lasting: float = 0.0
) -> Counter[str]:
    """Break the files again and again and read them; every outcome but success and a clean InputError is a failure.

    Returns how often each outcome came; fails with the broken file's path, its seed and the traceback.
    """
    seed = int(os.environ.get("TRIPTYCH_FUZZ_SEED", random.SystemRandom().randrange(10**9) if lasting else 0))
    draw = random.Random(seed)
    outcomes: Counter[str] = Counter()
    end, done = time.monotonic() + lasting, 0
    while done < times or time.monotonic() < end:
        name = draw.choice(sorted(seeds))
        path = folder / name
        path.write_bytes(broken(seeds[name], draw))
        done += 1
        try:
            read(path)
            outcomes["read"] += 1
        except InputError as error:
            text = str(error)
            text.encode()
            assert len(text) < 4000, f"{path} (seed {seed}, case {done}): a message of {len(text)} characters"
            assert "Traceback" not in text
            outcomes[error.what[:40]] += 1
        except Exception:
            raise AssertionError(f"{path} (seed {seed}, case {done}):\n{traceback.format_exc()}") from None
    print(f"fuzz: seed {seed}, {done} files, {outcomes['read']} read, {len(outcomes) - 1} kinds of error")
    return outcomes
