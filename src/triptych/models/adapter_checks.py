"""What an adapter's folder must be before anything is loaded: whole, as it was saved, and LoRA that can be switched.

`triptych.json` beside the adapter's files holds their hashes. With the adapter off, the base must be the base: an
adapter that changes the base's weights is refused by name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.errors import ModelError
from triptych.models.cache import sha256_of_large_file
from triptych.models.header import LARGEST_FILE
from triptych.models.library_errors import reason_of
from triptych.models.weight_formats import PICKLED, require_safetensors
from triptych.records.disk import is_there
from triptych.records.run_files import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS
from triptych.records.store import read_json, write_json

_INITS = (None, True, False, "true", "false", "gaussian", "orthogonal", "eva")
"""Ways to draw a fresh A that leave the base's weights alone."""
_CANT_BE_SWITCHED = {
    "trainable_token_indices": "changes the base model's embedding",
    "layer_replication": "repeats the base model's layers",
    "kasa_config": "changes the base model's weights",
    "alora_invocation_tokens": "is on for part of a row only",
    "arrow_config": "chooses among several adapters",
    "monteclora_config": "draws its weights at random",
    "use_bdlora": "is laid out for several devices",
    "megatron_config": "makes peft import a module that the adapter names",
}
_PATTERN_SECONDS = 5.0
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


def write_adapter_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts an adapter was made with, and the hashes of its files; last, when the files are whole."""
    files = {name: sha256_of_large_file(folder / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    write_json(folder / ADAPTER_RECORD, {**facts, "files": files})


def check_adapter_files(folder: Path, *, fix: str | None = None) -> dict[str, Any]:
    """Check that a folder holds an adapter and that its files are those that were saved.

    Args:
        folder: the adapter's.
        fix: how to get the adapter back where its files are not what was saved.

    Returns:
        The facts it was saved with; none for an adapter that Triptych did not make.

    Raises:
        ModelError: a file is missing, is pickled, or was changed after it was saved.
    """
    there = sorted(path.name for path in folder.iterdir()) if is_there(folder, Path.is_dir) else None
    pickled = [name for name in there or () if name.startswith("adapter_model") and Path(name).suffix in PICKLED]
    if pickled and not is_there(folder / ADAPTER_WEIGHTS, Path.is_file):
        raise ModelError(
            "the adapter's weights are pickled, and a pickle can run code when it is read",
            where=str(folder),
            found=", ".join(pickled[:4]),
            expected=ADAPTER_WEIGHTS,
            fix="save the adapter as safetensors (save_pretrained of a current peft does)",
        )
    if not all(is_there(folder / name, Path.is_file) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)):
        raise ModelError(
            "this folder holds no adapter",
            where=str(folder),
            found="no such folder" if there is None else ", ".join(there[:8]),
            expected=f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} (PEFT's format)",
            fix=fix,
        )
    record = read_json(folder / ADAPTER_RECORD) if is_there(folder / ADAPTER_RECORD, Path.is_file) else {}
    if not isinstance(record, dict):
        raise ModelError("the adapter's record holds no JSON object", where=str(folder / ADAPTER_RECORD))
    for name, saved in record.get("files", {}).items():
        if (sha256 := sha256_of_large_file(folder / name)) != saved:
            raise ModelError(
                "the adapter was changed after it was saved",
                where=str(folder / name),
                found=f"SHA-256 {sha256[:12]}…, {(folder / name).stat().st_size:,} bytes",
                expected=f"SHA-256 {saved[:12]}…, as {ADAPTER_RECORD} beside it says",
                fix=fix or f"copy the adapter again; if it was changed on purpose, delete its {ADAPTER_RECORD}",
            )
    require_safetensors(folder / ADAPTER_WEIGHTS, what="the adapter's weights")
    return record


def check_adapter_config(folder: Path) -> dict[str, Any]:
    """Refuse, before anything is loaded, an adapter whose numbers would not be right. Returns its configuration.

    Raises:
        ModelError: its configuration can't be read, it is no LoRA adapter, or it changes the base model.
    """
    try:
        if (size := (folder / ADAPTER_CONFIG).stat().st_size) > LARGEST_FILE:
            raise ValueError(f"{size:,} bytes; at most {LARGEST_FILE:,} are read")
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind = config.get("peft_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            "the adapter's configuration can't be read",
            where=str(folder / ADAPTER_CONFIG),
            found=reason_of(error),
            expected="JSON as PEFT writes it",
        ) from error
    if kind != "LORA":
        raise refused(folder, f"peft_type: {kind}", "this is no LoRA adapter, and only LoRA can be attached")
    init = config.get("init_lora_weights", True)
    if not isinstance(init, bool) and (init.lower() if isinstance(init, str) else init) not in _INITS:
        raise refused(
            folder,
            f"init_lora_weights: {init}",
            "this adapter changes the base model's weights, which then are not the base's when it is off",
            fix="convert it to plain LoRA (peft: save_pretrained(..., path_initial_model_for_weight_conversion=...))",
        )
    if (bias := config.get("bias", "none")) != "none":
        raise refused(folder, f"bias: {bias}", "this adapter replaces the base model's biases")
    if config.get("modules_to_save") and config.get("ensure_weight_tying"):
        raise refused(folder, "ensure_weight_tying: true", "this adapter ties the weights that it brings to others")
    for key, what in _CANT_BE_SWITCHED.items():
        if config.get(key):
            raise refused(folder, f"{key}: {str(config[key])[:80]}", f"this adapter {what}, which can't be switched")
    return config


def check_patterns(config: Mapping[str, Any], names: Sequence[str], where: Path) -> None:
    """Check that the regular expressions in an adapter's configuration can be matched with the model's layers in time.

    peft gives them to Python's `re`, which can't be stopped: `(a|aa)+$` takes time that doubles with every letter. They
    are tried on the names of the model's modules in a process of their own first, which can.

    Raises:
        ModelError: one is no regular expression, takes too long, or a rank is too large to be one.
    """
    keys = ("rank_pattern", "alpha_pattern")
    by_layer = {key: config[key] if isinstance(config.get(key), dict) else {} for key in keys}
    patterns = []
    for key in ("target_modules", "exclude_modules"):
        if isinstance(text := config.get(key), str) and text != "all-linear":
            patterns.append((key, f"(?:{text})$"))
    patterns += [(key, rf"(.*\.)?({text})$") for key, values in by_layer.items() for text in values]
    layers = config.get("layers_pattern") or []
    for text in [layers] if isinstance(layers, str) else layers:
        patterns.append(("layers_pattern", rf".*\.{text}\.(\d+)\."))
    ranks = [("r", config.get("r")), *by_layer["rank_pattern"].items()]
    large = [f"{key}: {rank:,}" for key, rank in ranks if isinstance(rank, int) and rank > _MOST]
    if large or len(patterns) > _MOST:
        raise ModelError(
            f"an adapter {'has too large a rank' if large else 'names its layers by too many regular expressions'}",
            where=str(where),
            found=large[0] if large else f"{len(patterns):,}",
            expected=f"at most {_MOST:,}",
        )
    if patterns:
        _try(patterns, names, where)


def _try(patterns: Sequence[tuple[str, str]], names: Sequence[str], where: Path) -> None:
    text = json.dumps({"patterns": patterns, "names": list(names)})
    command = [sys.executable, "-I", "-S", "-c", _TRY]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_PATTERN_SECONDS, check=False
        )
        output, problem = done.stdout, "not a regular expression" if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else (error.stdout or "")
        problem = f"not through with the model's {len(names)} modules after {_PATTERN_SECONDS:g} s"
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


def refused(folder: Path, found: str, why: str, fix: str | None = None) -> ModelError:
    """The error for an adapter that is whole and can't be used."""
    return ModelError(
        why, where=str(folder), found=found, expected="a LoRA adapter that only adds B A x to linear layers", fix=fix
    )
