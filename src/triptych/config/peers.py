"""The settings of other tools' YAML files, as far as they mean the same here: axolotl and LLaMA-Factory.

Every key of theirs ends in one of three places: mapped, already so here (nothing to set), or listed with the reason
why it is left out. Nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.config.peer_keys import AXOLOTL, LLAMA_FACTORY, NO, SO_HERE
from triptych.config.peer_rules import AXOLOTL_RULES, LLAMA_FACTORY_RULES, Mapped, Rule, is_count
from triptych.config.yaml_file import load_yaml, read_text
from triptych.errors import ConfigError

__all__ = ["read_peer"]


def read_peer(path: Path) -> Mapped:
    """Read an axolotl or LLaMA-Factory YAML.

    Raises:
        ConfigError: it can't be read, or is neither.
    """
    theirs, _ = load_yaml(read_text(path), path)
    names = (
        ("base_model", "axolotl", AXOLOTL, AXOLOTL_RULES),
        (
            "model_name_or_path",
            "LLaMA-Factory",
            LLAMA_FACTORY,
            LLAMA_FACTORY_RULES,
        ),
    )
    for sign, tool, keys, rules in names:
        if isinstance(theirs, dict) and sign in theirs:
            return _mapped(Mapped(tool), theirs, keys, rules, path)
    raise ConfigError(
        "this is neither an axolotl nor a LLaMA-Factory configuration",
        where=str(path),
        found=", ".join(map(str, list(theirs)[:8])) if isinstance(theirs, dict) and theirs else "no keys",
        expected="`base_model` (axolotl) or `model_name_or_path` (LLaMA-Factory) among the keys",
        fix="give such a file after --from, or leave --from out",
    )


def _mapped(
    mapped: Mapped, theirs: Mapping[str, Any], keys: Mapping[str, str], rules: Mapping[str, Rule], path: Path
) -> Mapped:
    mapped.put("model.quantize", "none", "no quantization")
    for key, value in theirs.items():
        as_here = SO_HERE.get(key)
        if value is None:
            continue
        if key in rules:
            rules[key](mapped, theirs, value, path)
        elif key in keys:
            _put_plain(mapped, key, keys[key], value)
        elif as_here is not None and as_here[0] in (None, value):
            mapped.so_here[key] = as_here[1]
        else:
            mapped.leave(str(key), value, as_here[1] if as_here else NO)
    if mapped.settings.get("tune", {}).get("max_tokens"):
        longest = mapped.settings["tune"]["max_tokens"]
        mapped.put("max_tokens", longest, mapped.origins["tune.max_tokens"])
    return mapped


def _put_plain(mapped: Mapped, key: str, ours: str, value: Any) -> None:
    if isinstance(value, dict | list):
        mapped.leave(key, value, f"{ours} takes one value")
    elif ours in ("tune.eval_every", "tune.checkpoint_every", "data.train_rows") and not is_count(value):
        mapped.leave(key, value, f"{ours} is a number of steps or rows, not a fraction")
    elif ours == "tune.max_steps" and not is_count(value):
        mapped.so_here[key] = "no bound on the steps"
    else:
        mapped.put(ours, value, key)
