"""Do the numbers stay where they are? What this code computes, to the bit, to be compared before and after a change.

    python benchmarks/proof/proof.py --make before.json --keep-run old-run     with the code as it is: three minutes
    ... the change ...
    python benchmarks/proof/proof.py --make after.json
    python benchmarks/proof/proof.py --compare before.json after.json          exit code 1 if anything differs
    python benchmarks/proof/proof.py --old-run old-run.tar                     does the new code read the old folder?

It takes the `triptych` that is imported (PYTHONPATH=src for a checkout). Only `where.py` imports it: after code has
moved, that file is changed and no other. Data of the study is read from --shared; without it, pass another folder with
`hw3/` and `llama2-tokenizer/` in it.

    tokens/ prompts/    token ids, scored span and demonstrations of every cell, training and candidate of a search, of
                        the examples, of one grid with all selections, draws and compositions, and of every prompt that
                        ships (`measured.py`)
    numbers/            five tiny architectures, float32 and bfloat16, two of them in NF4 too: NLL of rows behind
                        shared prefixes, gradients of a step, embeddings, written tokens; without and with an adapter
    run/ run-nf4/ tune/ command/    what `run`, `tune`, `score` and `predict` leave (`tiny_run.py`), without times,
                        memory, versions and the machine (`LEFT_OUT` there)

The file holds hashes and exact numbers under `entries` (floats as `float.hex`, or as JSON writes them, which is exact
too), and `made_with`. An entry that is a mapping or a list is compared by its keys. Compare two files of one machine:
another processor rounds otherwise, and --compare says so if they were made with different ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(__file__).resolve().parents[3] / "shared"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "numpy", "scipy", "pyarrow", "sacrebleu")
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile")
SHOWN = 12


def make(out: Path, work: Path, shared: Path, keep: Path | None) -> None:
    """Compute everything and write it to a file."""
    import torch

    torch.set_num_threads(1)
    import measured
    import tiny_run

    entries: dict[str, Any] = {}
    began = time.monotonic()

    def take(title: str, found: Iterator[tuple[str, Any]]) -> None:
        before = len(entries)
        for name, value in found:
            if name in entries:
                raise SystemExit(f"two entries are named {name}")
            entries[name] = value
        print(f"{title}: {len(entries) - before} entries, {time.monotonic() - began:.0f} s so far", flush=True)

    take("token ids", measured.tokens(work, shared))  # with the user's cache: it may hold the demo model unpacked
    os.environ["TRIPTYCH_CACHE"] = str(work / "cache")
    take("numbers of tiny models", measured.numbers(work))
    take("a tiny run", tiny_run.tiny_run(work))
    out.parent.mkdir(parents=True, exist_ok=True)
    value = {"made_with": made_with(), "entries": entries}
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{out}: {len(entries)} entries")
    if keep is not None:
        print(f"kept: {tiny_run.keep_runs(work, keep)}")


def made_with() -> dict[str, Any]:
    """Versions, and what of the processor decides which kernels compute."""
    import torch

    info = Path("/proc/cpuinfo")
    facts: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", "").split()
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "processor": facts.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "kernels of torch": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


# --- comparing


def compare(before: Path, after: Path, *, quiet: bool, added_ok: bool) -> bool:
    """Print what became of each entry. Returns whether nothing differs."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    for line in differences(old["made_with"], new["made_with"], "made with"):
        print(f"note: {line}")
    counts = {"equal": 0, "differs": 0, "added": 0}
    for name in sorted({*old["entries"], *new["entries"]}):
        if name not in old["entries"]:
            verdict, lines = "added", []
        else:
            lines = list(differences(old["entries"][name], new["entries"].get(name, "(gone)")))
            only_added = bool(lines) and all(line.endswith(ADDED) for line in lines)
            verdict = "equal" if not lines else "added" if only_added else "differs"
        counts[verdict] += 1
        if verdict != "equal" or not quiet:
            print(f"{verdict:8} {name}")
        for line in lines[:SHOWN]:
            print(f"             {line}")
        if len(lines) > SHOWN:
            print(f"             … and {len(lines) - SHOWN} more")
    print(f"{counts['equal']} equal, {counts['differs']} differ, {counts['added']} have more than before")
    return not counts["differs"] and (added_ok or not counts["added"])


ADDED = "(not there before)"


def differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """What is different between two values, a line each: `key.sub[3]: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            inner = f"{at}.{key}" if at else key
            if key not in new:
                yield f"{inner}: gone"
            elif key not in old:
                yield f"{inner}: {_short(new[key])} {ADDED}"
            else:
                yield from differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{at}[{i}]")
    elif old != new or type(old) is not type(new):
        told = f"{len(old)} -> {len(new)} entries; " if isinstance(old, list) and isinstance(new, list) else ""
        yield f"{at}: {told}{_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "…"


def main() -> int:
    """Parse, do one of the three, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--make", type=Path, metavar="FILE.json", help="compute everything and write it here")
    mode.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE.json", "AFTER.json"))
    mode.add_argument("--old-run", type=Path, metavar="DIR.tar", help="try an older run folder with the current code")
    parser.add_argument("--work", type=Path, help="a new folder to work in  [default: a temporary one]")
    parser.add_argument("--keep-run", type=Path, metavar="DIR", help="with --make: keep run folders as DIR.tar")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with hw3/ and llama2-tokenizer/")
    parser.add_argument("--quiet", action="store_true", help="with --compare: only what is not equal")
    parser.add_argument(
        "--added-ok", action="store_true", help="with --compare: new keys and entries are no difference"
    )
    given = parser.parse_args()
    if given.compare:
        return int(not compare(*given.compare, quiet=given.quiet, added_ok=given.added_ok))
    with tempfile.TemporaryDirectory(prefix="triptych-proof-") as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if given.make:
            make(given.make, work, given.shared, given.keep_run)
            return 0
        import tiny_run

        return int(not tiny_run.old_run(given.old_run, work))


if __name__ == "__main__":
    sys.exit(main())
