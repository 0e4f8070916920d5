"""Writes the table of docs/results/families.md from what `make test-families` measured: python table.py FOLDER."""

from __future__ import annotations

import json
import platform
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

HEAD = """# Families

What happens to {n} tiny random models of {families} families: scored, trained, written and reloaded by Triptych, beside
a plain one-row forward of transformers and a plain peft loop. Made by `make test-families`, which fails where a family
neither equals the plain way, nor falls back to it and says so, nor is refused before any work.

{versions}

- **packed**: whether rows are computed side by side behind a shared prefix; otherwise one by one by the model's own
  forward, which is said.
- **float32**: difference from the plain float32 forward, nats a token of the row that differs most.
- **bfloat16**: the average difference from the plain float32 forward, and beside it that of the model's own bfloat16
  forward: rounding, not error.
- **adapted**: linear layers that LoRA is put on by default; **gradient**: of one step, against plain peft's in float32,
  relative to its size; **reloaded**: the saved adapter in plain peft, largest difference of any token, nats.
- **written**: rows whose greedy tokens in float32 are those of `model.generate`.

A row's score never changed with the text of the rows beside it, nor with their order, to the bit. (With routed experts
and on a processor without matrix units it moves by float32 rounding, 1e-6: as many tokens meet in an expert's product
as the texts send there.)
"""


def main() -> None:
    """Read, sort, print."""
    records: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for file in Path(sys.argv[1]).glob("*.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        records[record["name"]][record["dtype"]] = record
    from architectures import FAMILIES

    packages = ("torch", "transformers", "peft", "bitsandbytes")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    rows = [_row(name, records[name]) for name in FAMILIES if name in records]
    families = len({FAMILIES[name]["family"] for name in records})
    print(HEAD.format(n=len(rows), families=families, versions=f"{versions}, CPU ({platform.machine()})."))
    print("| model | packed | float32 | bfloat16 (own forward) | adapted | gradient | reloaded | written |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    if left_out := [name for name in FAMILIES if name not in records]:
        print(f"\nLeft out, since transformers can't build them from their own configurations: {', '.join(left_out)}.")
    if any(record["refused"] for of_dtypes in records.values() for record in of_dtypes.values()):
        print("\nRefused before any work:\n")
        for name in FAMILIES:
            for dtype, record in sorted(records.get(name, {}).items(), reverse=True):
                if record["refused"]:
                    print(f"- {name}, {dtype}: {record['refused']}")
    print("\nSaid of a family that falls back or leaves something out:\n")
    for name in FAMILIES:
        for said in _said(records.get(name, {})):
            print(f"- {name}: {said}")


def _said(record: dict[str, dict[str, Any]]) -> list[str]:
    lines = (line for of_dtype in record.values() for line in of_dtype["said"])
    kept = [line for line in lines if "scored one by one" in line or "not adapted" in line or "not trained" in line]
    first = {line[:40]: line for line in reversed(kept)}
    return list(first.values())[::-1]


def _row(name: str, record: dict[str, dict[str, Any]]) -> str:
    exact, rounded = record.get("float32", {}), record.get("bfloat16", {})
    if exact.get("refused"):
        return f"| {name} | refused | | | | | | |"

    def number(value: float | None) -> str:
        return "" if value is None else "0" if value == 0 else f"{value:.1e}"

    both = "" if rounded.get("score_mean") is None else f"{rounded['score_mean']:.3f} ({rounded['own_mean']:.3f})"
    if rounded.get("refused"):
        both = "refused"
    cells = [
        name,
        "yes" if exact.get("packed") else "no",
        number(exact.get("score")),
        both,
        str(exact.get("adapted") or ""),
        number(exact.get("gradient")),
        number(exact.get("reloaded")),
        exact.get("written") or "",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
