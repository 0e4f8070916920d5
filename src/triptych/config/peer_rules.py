"""Keys of axolotl and LLaMA-Factory that take more than another name: one function each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config.peer_keys import NO, SCHEDULES
from triptych.config.sources import is_there

__all__ = ["AXOLOTL_RULES", "LLAMA_FACTORY_RULES", "Mapped", "Rule", "is_count"]


@dataclass
class Mapped:
    """What a file of another tool says in our words."""

    tool: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Nested, as in our YAML; not checked yet."""
    origins: dict[str, str] = field(default_factory=dict)
    """Our dotted key -> theirs."""
    so_here: dict[str, str] = field(default_factory=dict)
    """Their key -> how it is here without setting anything."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Their `key: value` -> why."""

    def put(self, ours: str, value: Any, theirs: str) -> None:
        """Set one of our keys."""
        *parents, last = ours.split(".")
        at = self.settings
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
        self.origins[ours] = theirs

    def leave(self, key: str, value: Any, why: str = NO) -> None:
        """Note a key that means nothing here, or nothing that is sure."""
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError):  # YAML's keys may be dates, and its values NaN
            text = repr(value)
        self.left_out[f"{key}: {text if len(text) <= 80 else text[:79] + '…'}"] = why


Rule = Callable[[Mapped, Mapping[str, Any], Any, Path], None]


def is_count(value: Any) -> bool:
    """Whether it is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _load_in(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path, *, bits: int) -> None:
    if value is True:
        mapped.put("model.quantize", {4: "nf4", 8: "int8"}[bits], f"load_in_{bits}bit")


def _quantization_bit(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
    kind = {4: "nf4", 8: "int8"}.get(value) if isinstance(value, int) else None
    if kind:
        mapped.put("model.quantize", kind, "quantization_bit")
    else:
        mapped.leave("quantization_bit", value, "only 4 and 8 bits are there")


def _schedule(key: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        if isinstance(value, str) and value in SCHEDULES:
            mapped.put("tune.schedule", SCHEDULES[value], key)
        else:
            mapped.leave(key, value, f"tune.schedule is one of {', '.join(sorted(set(SCHEDULES.values())))}")

    return rule


def _warmup_steps(mapped: Mapped, theirs: Mapping[str, Any], value: Any, _: Path) -> None:
    steps = theirs.get("max_steps")
    if isinstance(value, int | float) and 0 < value < 1:
        mapped.put("tune.warmup", value, "warmup_steps")
    elif isinstance(steps, int) and is_count(steps) and isinstance(value, int) and 0 <= value < steps:
        mapped.put("tune.warmup", round(value / steps, 6), "warmup_steps / max_steps")
    elif value == 0:
        mapped.put("tune.warmup", 0, "warmup_steps")
    else:
        mapped.leave("warmup_steps", value, "tune.warmup is a fraction of all steps")


def _targets(key: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if names in (["all"], ["all-linear"]):
            mapped.put("tune.target_modules", "all-linear", key)
        elif isinstance(names, list) and names and all(isinstance(name, str) and name for name in names):
            mapped.put("tune.target_modules", names, key)
        else:
            mapped.leave(key, value, "tune.target_modules is a list of names, or all-linear")

    return rule


def _all_linear(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
    if value is True:
        mapped.put("tune.target_modules", "all-linear", "lora_target_linear")


def _method(key: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        if value in ("lora", "qlora"):
            mapped.so_here[key] = "the strategy qlora"
        else:
            mapped.leave(key, value, "adapters are the only training here")

    return rule


def _precision(key: str, dtype: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        if value is True:
            mapped.put("model.dtype", dtype, key)
        elif value == "auto":
            mapped.so_here[key] = "model.dtype is auto"

    return rule


def _name(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
    name = re.sub(r"[^\w.\-]", "-", Path(str(value)).name).lstrip(".-")
    if name:
        mapped.put("name", name, "output_dir")


def _held_out(key: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        if is_count(value):
            mapped.put("data.dev_rows", value, key)
        elif value:
            mapped.leave(key, value, "data.dev_rows is a number of rows, not a fraction")

    return rule


def _adam(number: int) -> Rule:
    key = f"adam_beta{number}"

    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, __: Path) -> None:
        if isinstance(value, int | float) and 0 <= value < 1:
            betas = list(mapped.settings.get("tune", {}).get("betas", (0.9, 0.999)))
            betas[number - 1] = float(value)
            mapped.put("tune.betas", betas, "adam_beta1, adam_beta2")
        else:
            mapped.leave(key, value, "not a number from 0 to 1")

    return rule


def _axolotl_data(role: str, key: str) -> Rule:
    def rule(mapped: Mapped, _: Mapping[str, Any], value: Any, path: Path) -> None:
        first, *others = value if isinstance(value, list) and value else [value]
        if not isinstance(first, Mapping) or not isinstance(first.get("path"), str) or not first["path"]:
            mapped.leave(key, value, "no path in it")
            return
        files = first.get("data_files")
        source = files[0] if isinstance(files, list) and files else files
        split = first.get("split")
        place = str(source) if isinstance(source, str) else _beside(first["path"], path)
        is_hub = source is None and not Path(place).suffix
        mapped.put(f"data.{role}", f"{place}:{split}" if is_hub and isinstance(split, str) else place, f"{key}[0].path")
        if isinstance(first.get("type"), str):
            mapped.so_here[f"{key}[0].type"] = f"{first['type']}: how rows are written is detected"
        columns = {
            ours: first[theirs] for theirs, ours in _AXOLOTL_COLUMNS.items() if isinstance(first.get(theirs), str)
        }
        if columns:
            mapped.put("data.columns", columns, f"{key}[0].field_…")
        known = ("path", "type", "split", "data_files", "ds_type", "name", *_AXOLOTL_COLUMNS)
        for inner, what in first.items():
            if inner not in known:
                mapped.leave(f"{key}[0].{inner}", what)
        for number, other in enumerate(others, 1):
            mapped.leave(f"{key}[{number}]", other, "one file is read: put them together")

    return rule


_AXOLOTL_COLUMNS = {
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_messages": "messages",
}


def _llama_factory_data(role: str, key: str) -> Rule:
    def rule(mapped: Mapped, theirs: Mapping[str, Any], value: Any, path: Path) -> None:
        names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not isinstance(names[0], str) or not names[0]:
            mapped.leave(key, value, "no name of a data set")
            return
        entry, folder = _dataset_info(theirs, names[0], path)
        source = entry.get("hf_hub_url") or entry.get("file_name")
        if isinstance(source, str):
            place = source if entry.get("hf_hub_url") else _beside(str(folder / source), path)
            mapped.put(f"data.{role}", place, f"{key}: {names[0]} in dataset_info.json")
        else:
            mapped.put(f"data.{role}", names[0], key)
            mapped.leave(
                key, names[0], "dataset_info.json doesn't say which file it is: write the path as data." + role
            )
        columns = entry.get("columns")
        if isinstance(columns, dict):
            ours = {"prompt": "instruction", "query": "input", "response": "output", "messages": "messages"}
            mapping = {ours[name]: column for name, column in columns.items() if name in ours and column != ours[name]}
            if mapping:
                mapped.put("data.columns", mapping, f"{key}: columns in dataset_info.json")
        for other in names[1:]:
            mapped.leave(key, other, "one file is read: put them together")

    return rule


def _dataset_info(theirs: Mapping[str, Any], name: str, path: Path) -> tuple[dict[str, Any], Path]:
    """What LLaMA-Factory's list of data sets says, if it is there."""
    given = theirs.get("dataset_dir")
    folder = Path(given if isinstance(given, str) else "data")
    for base in (path.parent, Path()):
        try:
            info = json.loads((base / folder / "dataset_info.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        entry = info.get(name) if isinstance(info, dict) else None
        return (entry if isinstance(entry, dict) else {}), folder
    return {}, folder


def _beside(place: str, path: Path) -> str:
    """Their paths are relative to where the tool runs; if the file is beside the YAML, that is meant."""
    return str(path.parent / place) if not is_there(place) and is_there(path.parent / place) else place


def _ignored(_: Mapped, __: Mapping[str, Any], ___: Any, ____: Path) -> None:
    """Used by another key's rule."""


AXOLOTL_RULES: dict[str, Rule] = {
    "load_in_4bit": lambda m, t, v, p: _load_in(m, t, v, p, bits=4),
    "load_in_8bit": lambda m, t, v, p: _load_in(m, t, v, p, bits=8),
    "adapter": _method("adapter"),
    "datasets": _axolotl_data("train", "datasets"),
    "test_datasets": _axolotl_data("test", "test_datasets"),
    "lora_target_modules": _targets("lora_target_modules"),
    "lora_target_linear": _all_linear,
    "lr_scheduler": _schedule("lr_scheduler"),
    "warmup_steps": _warmup_steps,
    "bf16": _precision("bf16", "bfloat16"),
    "fp16": _precision("fp16", "float16"),
    "output_dir": _name,
    "val_set_size": _held_out("val_set_size"),
    "adam_beta1": _adam(1),
    "adam_beta2": _adam(2),
}
LLAMA_FACTORY_RULES: dict[str, Rule] = {
    "quantization_bit": _quantization_bit,
    "finetuning_type": _method("finetuning_type"),
    "dataset": _llama_factory_data("train", "dataset"),
    "eval_dataset": _llama_factory_data("test", "eval_dataset"),
    "dataset_dir": _ignored,
    "lora_target": _targets("lora_target"),
    "lr_scheduler_type": _schedule("lr_scheduler_type"),
    "warmup_steps": _warmup_steps,
    "bf16": _precision("bf16", "bfloat16"),
    "pure_bf16": _precision("pure_bf16", "bfloat16"),
    "fp16": _precision("fp16", "float16"),
    "output_dir": _name,
    "val_size": _held_out("val_size"),
    "adam_beta1": _adam(1),
    "adam_beta2": _adam(2),
}
