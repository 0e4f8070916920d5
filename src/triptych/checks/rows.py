"""Whether rows are what the model should see: the checks of `preview`, and of the start of `run`, `tune`, `score` and
`predict`, on the command line and in Python.

Each looks at token ids that were really rendered, not at settings. A failed check stops the run. A warning names what
may be meant so: data may hold the text of a special token, and a tokenizer may not give every text back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.checks.findings import Check, Outputs, count, quoted, rendered_rows, some, text_of
from triptych.checks.text import round_trip, special_text, unknown_tokens
from triptych.config.experiment import ExperimentConfig
from triptych.data import Row, find_overlap
from triptych.errors import ConfigError, DataError, ModelError
from triptych.grid.cells import TrainingSpec, trainings
from triptych.grid.views import Ceiling, View, Views
from triptych.progress import Watcher
from triptych.records.run_files import ADAPTER_RECORD
from triptych.records.store import read_json

__all__ = ["Check", "adapter_facts", "begin", "require", "run_checks"]

_ANY_ROW = Row("any", "a", "a")


def run_checks(views: Views, *, adapters: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Check, ...]:
    """All checks, in the order they are shown.

    Args:
        views: the rendered rows.
        adapters: name of a training -> the facts its adapter was saved with (`triptych.json`), for adapters there are.
    """
    outputs = Outputs(views.profile)
    return (
        _one_bos(views),
        _eos_scored(views),
        _prompt_masked(views, outputs),
        _nothing_truncated(views),
        _demos_apart(views),
        _rendered_alike(views),
        _adapter_prompt(views, adapters or {}),
        round_trip(views, outputs),
        special_text(views),
        unknown_tokens(views),
    )


def begin(
    views: Views, watcher: Watcher, *, adapters: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Check, ...]:
    """Check the rows of a command before it computes anything, and say each warning once.

    Raises:
        DataError: rows fail a check.
        ConfigError: settings, a template or an adapter do.
    """
    checks = run_checks(views, adapters=adapters)
    require(checks)
    for check in checks:
        if not check.passed:
            watcher.say(f"warning: {check.name}: {check.detail}")
    return checks


def require(checks: Sequence[Check]) -> None:
    """Let a run begin, or not.

    Raises:
        DataError: rows fail a check.
        ConfigError: settings, a template or an adapter do.
    """
    failed = [check for check in checks if check.stops]
    if not failed:
        return
    kind = DataError if all(check.about == "data" for check in failed) else ConfigError
    lines = [f"✗ {check.name}: {check.detail}" for check in failed]
    fixes = list(dict.fromkeys(check.fix for check in failed if check.fix))
    raise kind(
        f"the model would not see what it should: {count(len(failed), 'check')} failed",
        found="\n    ".join(["", *lines]),
        fix="; ".join(fixes),
    )


def adapter_facts(
    config: ExperimentConfig, adapter_of: Callable[[TrainingSpec], Path] | None, adapter: Path | None = None
) -> dict[str, Mapping[str, Any]]:
    """What the run's adapters, as far as there are any, were saved with, by training.

    Args:
        config: the experiment.
        adapter_of: where the run's folder keeps a training's adapter; None: there is no folder.
        adapter: another one, in place of the first training's.

    Raises:
        ModelError: `adapter` is given and is none.
        ConfigError: `adapter` is given, and nothing is trained that it could be held against.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for training in trainings(config):
        place = adapter if adapter and training.first else adapter_of(training) if adapter_of else None
        if place is not None and (place / ADAPTER_RECORD).is_file():
            found[training.name] = read_json(place / ADAPTER_RECORD)
    if adapter is not None and not trainings(config):
        raise ConfigError(
            "an adapter's prompt is held against the one that is trained with, and nothing is trained",
            where="--adapter",
            found=str(adapter),
            fix="add the strategy qlora, or leave --adapter out",
        )
    if adapter is not None and trainings(config)[0].name not in found:
        there = ", ".join(sorted(p.name for p in adapter.iterdir())[:8]) if adapter.is_dir() else "no such folder"
        raise ModelError(
            "this folder doesn't say which prompt its adapter was trained with",
            where=str(adapter),
            found=there or "nothing",
            expected="triptych.json beside the adapter's weights",
        )
    return found


def _one_bos(views: Views) -> Check:
    name, bos = "one BOS, at the start", views.profile.bos_id
    if bos is None:
        return Check(name, True, "the model has no BOS, and none is put")
    text = text_of(views.profile, bos)
    shared = bos == views.profile.eos_id  # then one at the end is the EOS, and between demonstrations it may be meant
    train = {row.id: row for row in views.data.train}
    missing: list[str] = []
    doubled: list[str] = []
    inside = 0
    for view in views.views:
        # a chat template decides for itself on BOS: it may put none, or one before every turn, but never two at once
        chat = views.templates[view.prompt].style != "plain"
        from_template = text in _template_text(views, view)
        for row, rendered in zip(view.rows, view.rendered, strict=True):
            if rendered.ids[0] != bos and not chat:
                missing.append(row.id)
            again = rendered.ids[:2] == (bos, bos) if shared or chat else bos in rendered.ids[1:]
            if not again:
                continue
            sources = [row, *(train[demo] for demo in rendered.demo_ids if demo in train)]
            from_data = any(text in part for source in sources for part in (source.instruction, source.target()))
            if from_template or not from_data:  # not from the data either: the tokenizer puts one of its own
                doubled.append(row.id)
            else:
                inside += 1
    if missing:
        return Check(name, False, f"no {text} before {some(missing)}", tuple(missing), _REPORT)
    if doubled:
        templates = [n for n, t in views.templates.items() if text in f"{t.preamble}{t.zero_shot}{t.few_shot}"]
        cause = f"the text of {quoted(templates)}" if templates else "the tokenizer or its chat template"
        detail = f"{text} occurs again after the start, put there by {cause}: {some(doubled)}"
        fix = f"take {text} out of the template: it is put before every prompt" if templates else _fault_of(views)
        return Check(name, False, detail, tuple(dict.fromkeys(doubled)), fix)
    also = f"; {count(inside, 'rendering')} with {text} in the data's own text" if inside else ""
    return Check(name, True, f"{text} ({bos}) once, before every prompt{also}")


def _eos_scored(views: Views) -> Check:
    name, eos = "EOS last and scored", views.profile.eos_id
    bad: list[str] = []
    for view in (view for view in views.views if view.answered):
        if views.templates[view.prompt].style == "plain":
            bad += [r.row_id for r in view.rendered if r.ids[-1] != eos or r.n_scored < 1]
        else:  # the token that ends a turn, which a template may follow with a line break
            ends = set(views.profile.chat_stop_ids())
            bad += [r.row_id for r in view.rendered if ends.isdisjoint(r.ids[r.n_prompt :])]
    detail = f"without {text_of(views.profile, eos)} as the last scored token: {some(bad)}" if bad else ""
    note = f"; {views.profile.note}" if views.profile.note else ""
    fix = _fault_of(views) if bad else None
    return Check(name, not bad, detail or f"{text_of(views.profile, eos)} ({eos}){note}", tuple(bad), fix)


def _prompt_masked(views: Views, outputs: Outputs) -> Check:
    name, n = "prompt masked: the output and EOS are scored", 0
    bad: dict[bool, list[str]] = {True: [], False: []}
    for view in (view for view in views.views if view.answered):
        plain = views.templates[view.prompt].style == "plain"
        same = outputs.scored_alone if plain else outputs.answered
        for row, rendered in zip(view.rows, view.rendered, strict=True):
            n += 1
            if rendered.n_prompt < 1 or not same(row, rendered):
                bad[plain].append(row.id)
    if bad[True]:
        rows = bad[True] + bad[False]
        return Check(name, False, f"other tokens than the output's are scored: {some(rows)}", tuple(rows), _REPORT)
    if bad[False]:
        detail = f"the model's chat template does not leave the whole output: {some(bad[False])}"
        return Check(name, False, detail, tuple(bad[False]), _CHAT_TEMPLATE)
    scored, all_of_them = sum(r.n_scored for r in rendered_rows(views)), sum(len(r.ids) for r in rendered_rows(views))
    return Check(name, True, f"{scored:,} of {all_of_them:,} tokens scored in {count(n, 'rendering')}")


def _nothing_truncated(views: Views) -> Check:
    name = "no answer truncated"
    long = [(view, row) for view in views.views if view.cell for row in view.too_long]
    if long:
        ids = tuple(dict.fromkeys(row for _, row in long))
        limits = {view.max_tokens for view, _ in long}
        detail = f"longer than {max(limits):,} tokens even without demonstrations: {some(ids)}"
        fix = (views.ceiling or Ceiling(max(limits))).how_to_fit()
        return Check(name, False, detail, ids, fix, about="data")
    empty = [view for view in views.views if view.training and not view.rows]
    if empty:
        detail = f"all training rows are longer than {empty[0].max_tokens:,} tokens: nothing is left to train on"
        return Check(name, False, detail, empty[0].too_long, _longer_training_rows(views, empty[0].max_tokens))
    said = [f"longest {max((len(r.ids) for r in rendered_rows(views)), default=0):,} tokens"]
    for view in views.views:
        if view.training and view.too_long:
            said.append(f"{view.name}: {len(view.too_long)} of {view.n_seen:,} rows too long, left out whole")
    dropped = sum(r.n_demos_dropped for r in rendered_rows(views))
    said += [f"{count(dropped, 'demonstration')} that did not fit dropped whole"] if dropped else []
    said += [f"{v.n_seen:,} of {v.n_rows:,} rows of {v.name} looked at" for v in views.views if v.n_seen < v.n_rows]
    left_out = tuple(dict.fromkeys(row for view in views.views if view.training for row in view.too_long))
    return Check(name, True, "; ".join(said), left_out)


def _longer_training_rows(views: Views, longest: int) -> str:
    if views.ceiling is None or longest < views.ceiling.tokens:
        return "shorten the rows, or raise tune.max_tokens"
    ways = views.ceiling.how_to_fit()
    return ways.replace("raise max_tokens", "raise max_tokens and tune.max_tokens")


def _demos_apart(views: Views) -> Check:
    name, data = "demonstrations are training rows, never from the test set, never the row itself", views.data
    train = {row.id: row for row in data.train}
    used = dict.fromkeys(demo for r in rendered_rows(views) for demo in r.demo_ids)
    own = [r.row_id for view in views.views if view.training for r in view.rendered if r.row_id in r.demo_ids]
    strange = [demo for demo in used if demo not in train]
    overlap = find_overlap([train[demo] for demo in used if demo in train], data.test)
    bad = (*strange, *sorted(overlap.train_ids), *own)
    if bad:
        said = [f"not training rows: {some(strange)}"] if strange else []
        said += [f"also in the test set: {some(sorted(overlap.train_ids))}"] if overlap else []
        said += [f"shown to itself: {some(own)}"] if own else []
        return Check(name, False, "; ".join(said), tuple(dict.fromkeys(bad)), _REPORT, about="data")
    blind = f"; not looked at, since the model chooses: {quoted(views.left_out)}" if views.left_out else ""
    apart = len(data.overlapping_train_ids)
    kept = f"; {count(apart, 'training row')} that occur in the test set are never shown" if apart and used else ""
    return Check(name, True, (f"{len(used):,} rows shown{kept}" if used else "none are shown") + blind)


def _rendered_alike(views: Views) -> Check:
    name = "training and scoring render alike"
    bad = [
        pair.scored.row_id
        for pair in views.pairs
        if (pair.trained.ids, pair.trained.n_prompt) != (pair.scored.ids, pair.scored.n_prompt)
    ]
    if bad:
        return Check(name, False, f"other tokens in training than in scoring: {some(bad)}", tuple(bad), _REPORT)
    return Check(name, True, f"{count(len(views.pairs), 'row')} by both" if views.pairs else "nothing is trained")


def _adapter_prompt(views: Views, adapters: Mapping[str, Mapping[str, Any]]) -> Check:
    name, same = "prompt is the adapter's", 0
    bad: list[str] = []
    for training in views.trainings:
        trained_with = adapters.get(training.name, {}).get("prompt_sha256")
        if trained_with is None:
            continue
        now = views.templates[training.prompt].sha256
        if trained_with == now:
            same += 1
        else:
            was = adapters[training.name].get("prompt", "a prompt")
            bad.append(f"trained with `{was}` ({trained_with[:12]}…), `{training.prompt}` is {now[:12]}… now")
    if bad:
        fix = "give the prompt it was trained with under strategies.qlora.prompt, or train again with --fresh"
        return Check(name, False, "; ".join(bad), fix=fix)
    return Check(name, True, f"{count(same, 'adapter')}, same hash" if same else "no adapter yet")


_REPORT = "this is a mistake of Triptych or of the tokenizer, not of yours: please report it with this message"
_CHAT_TEMPLATE = (
    "correct chat_template in the model's tokenizer_config.json (or chat_template.jinja), or use a prompt with "
    "`style: plain`, which doesn't use it"
)


def _fault_of(views: Views) -> str:
    """Whose mistake a wrong special token is: the chat template's, where one wrote it; else ours or the tokenizer's."""
    return _CHAT_TEMPLATE if any(t.style != "plain" for t in views.templates.values()) else _REPORT


def _template_text(views: Views, view: View) -> str:
    template = views.templates[view.prompt]
    k = (view.cell.k if view.cell else 0) or (view.training.k if view.training else 0)
    return template.prompt("a", [_ANY_ROW] * k)
