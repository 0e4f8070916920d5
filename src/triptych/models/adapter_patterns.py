"""Whether the regular expressions in an adapter's configuration can be matched with the model's layers in time.

peft gives them to Python's `re`, which can't be stopped: `(a|aa)+$` takes time that doubles with every letter. They are
tried in a process of its own first, which can.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.errors import ModelError

_SECONDS = 5.0
_MOST = 10_000
"""Expressions, and ranks."""
_TRY = """
import json, re, sys
given = json.load(sys.stdin)
for key, pattern in given["patterns"]:
    print(json.dumps([key, pattern]), flush=True)
    compiled = re.compile(pattern)
    for name in given["names"]:
        compiled.match(name)
print("done", flush=True)
"""


def check_patterns(config: Mapping[str, Any], names: Sequence[str], where: Path) -> None:
    """Try every expression on every name.

    Args:
        config: `adapter_config.json`.
        names: of the model's modules.
        where: the adapter's folder.

    Raises:
        ModelError: one is no regular expression, takes too long, or a rank is too large to be one.
    """
    ranks = [("r", config.get("r")), *_items(config, "rank_pattern")]
    for key, rank in ranks:
        if isinstance(rank, int) and rank > _MOST:
            raise ModelError(
                "an adapter's rank is too large",
                where=str(where),
                found=f"{key}: {rank:,}",
                expected=f"at most {_MOST:,}",
            )
    patterns = [(key, config[key]) for key in ("target_modules", "exclude_modules") if isinstance(config.get(key), str)]
    patterns = [(key, text) for key, text in patterns if text != "all-linear"]
    patterns = [(key, f"(?:{text})$") for key, text in patterns]
    patterns += [
        (key, rf"(.*\.)?({text})$") for key in ("rank_pattern", "alpha_pattern") for text, _ in _items(config, key)
    ]
    layers = config.get("layers_pattern") or []
    patterns += [
        ("layers_pattern", rf".*\.{text}\.(\d+)\.") for text in ([layers] if isinstance(layers, str) else layers)
    ]
    if not patterns:
        return
    if len(patterns) > _MOST:
        raise ModelError(
            "an adapter has more regular expressions than layers can need",
            where=str(where),
            found=f"{len(patterns):,}",
            expected=f"at most {_MOST:,}",
        )
    _try(patterns, names, where)


def _items(config: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    value = config.get(key)
    return list(value.items()) if isinstance(value, dict) else []


def _try(patterns: Sequence[tuple[str, str]], names: Sequence[str], where: Path) -> None:
    given = json.dumps({"patterns": patterns, "names": list(names)})
    command = [sys.executable, "-I", "-S", "-c", _TRY]
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_SECONDS, check=False)
        output, problem = done.stdout, "not a regular expression" if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else (error.stdout or "")
        problem = f"not through with the model's {len(names)} modules after {_SECONDS:g} s"
    if not problem:
        return
    lines = output.strip().splitlines()
    key, pattern = json.loads(lines[-1]) if lines else patterns[0]
    raise ModelError(
        "an adapter names its layers by a regular expression that can't be used",
        where=str(where),
        found=f"{key}: {pattern[:200]!r}: {problem}",
        expected="an expression that Python's re matches with every module's name within seconds",
        fix="write `target_modules` as a list of names, such as [q_proj, v_proj], in adapter_config.json",
    )
