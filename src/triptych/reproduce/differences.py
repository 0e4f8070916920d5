"""What is different now from when a run was made: versions, machine, data, prompts, model, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from triptych.config.experiment import ExperimentConfig
from triptych.data import Dataset
from triptych.prompts import Template
from triptych.records.provenance import provenance
from triptych.reproduce.recorded import RecordedRun
from triptych.runner.results import deciding

Kind = Literal["code", "machine", "data", "prompt", "model", "settings"]
_CHANGES = "+changes"
_MODEL = (
    ("model weights", "weights_sha256"),
    ("model config.json", "config_sha256"),
    ("tokenizer", "tokenizer_sha256"),
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing then and now."""

    kind: Kind
    name: str
    then: str | None
    """None: not recorded."""
    now: str | None
    status: Literal["same", "changed", "unknown"]

    def sentence(self) -> str:
        """`torch 2.13.0 -> 2.14.0`."""
        return f"{self.name} {shortened(self.then)} -> {shortened(self.now)}"


def decides(fact: Fact) -> bool:
    """Whether numbers must be expected to move with it: versions and machines move them by rounding at most."""
    return fact.kind not in ("code", "machine")


def differences(
    run: RecordedRun,
    config: ExperimentConfig,
    data: Dataset,
    templates: Mapping[str, Template],
    model: Mapping[str, str],
) -> tuple[Fact, ...]:
    """Compare all that a run recorded with its settings, rows, prompts and model as they are now."""
    then, now = run.record.provenance, provenance()
    facts = [_fact("code", "triptych", then.get("triptych"), now["triptych"]), _commit(then.get("git"), now["git"])]
    facts.append(_fact("code", "python", then.get("python"), now["python"]))
    before, packages = then.get("packages", {}), now["packages"]
    facts += [_fact("code", name, before.get(name), packages.get(name)) for name in {**before, **packages}]
    facts += [_fact("machine", key, then.get(key), now.get(key)) for key in ("platform", "processor", "accelerator")]
    for role, entry in {**then["data"], **data.files}.items():
        was, here = then["data"].get(role, entry), data.files.get(role, {})
        facts.append(_fact("data", f"{role} file", was.get("sha256"), here.get("sha256")))
        facts.append(_fact("data", f"{role} rows used", was.get("n_rows_used"), here.get("n_rows_used")))
    prompts = {name: template.sha256 for name, template in templates.items()}
    for name, texts in run.record.prompts.items():
        facts.append(_fact("prompt", f"prompt `{name}`", texts.get("sha256"), prompts.get(name)))
    recorded = run.lock.get("model", {})
    facts += [_fact("model", name, recorded.get(key), model.get(key)) for name, key in _MODEL]
    return (*facts, *_settings(run.lock.get("config", {}), deciding(config)))


def shortened(value: str | None) -> str:
    """For a table: hashes by their first twelve digits."""
    if value is None:
        return "(none)"
    bare = value.removesuffix(_CHANGES)
    if len(bare) >= 40 and all(c in "0123456789abcdef" for c in bare):
        return bare[:12] + "…" + value[len(bare) :]
    return value


def _fact(kind: Kind, name: str, then: Any, now: Any) -> Fact:
    was, here = (None if value is None else str(value) for value in (then, now))
    return Fact(kind, name, was, here, "same" if was == here else "unknown" if was is None else "changed")


def _commit(then: str | None, now: str | None) -> Fact:
    fact = _fact("code", "git commit", then, now)
    # the same commit, but with uncommitted changes that are not recorded; or none, of an installed package
    unsure = (fact.status == "same" and then is not None and then.endswith(_CHANGES)) or now is None
    return replace(fact, status="unknown") if unsure else fact


def _settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Fact]:
    """The settings that decide numbers. Keys that one version has and another doesn't can't be compared."""
    old, new = _flat(then), _flat(now)
    both = [_fact("settings", key, old[key], new[key]) for key in old if key in new]
    changed = [fact for fact in both if fact.status != "same"]
    same = f"{len(both) - len(changed)} the same"
    gone = [Fact("settings", key, old[key], None, "unknown") for key in sorted(old.keys() - new.keys())]
    return [Fact("settings", "settings", same, same, "same"), *changed, *gone]


def _flat(value: Mapping[str, Any], at: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(item, Mapping):
            flat |= _flat(item, name)
        else:
            flat[name] = str(list(item) if isinstance(item, tuple) else item)
    return flat
