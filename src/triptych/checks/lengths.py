"""Checks of whole rows: no answer is cut, no test row is shown, training and scoring render alike."""

from __future__ import annotations

from triptych.checks.findings import REPORT, Check, count, quoted, rendered_rows, some
from triptych.data import find_overlap
from triptych.grid.rendered import RenderedExperiment


def nothing_truncated(experiment: RenderedExperiment) -> Check:
    """Whether every row fits with its whole output."""
    name = "no answer truncated"
    long = [(part, row) for part in experiment.parts if part.cell for row in part.too_long]
    if long:
        ids = tuple(dict.fromkeys(row for _, row in long))
        limits = {part.max_tokens for part, _ in long}
        detail = f"longer than {max(limits):,} tokens even without demonstrations: {some(ids)}"
        return Check(name, False, detail, ids, experiment.limit.how_to_fit(), about="data")
    empty = [part for part in experiment.parts if part.training and not part.rows]
    if empty:
        detail = f"all training rows are longer than {empty[0].max_tokens:,} tokens: nothing is left to train on"
        return Check(name, False, detail, empty[0].too_long, _longer_training_rows(experiment, empty[0].max_tokens))
    notes = [f"longest {max((len(r.ids) for r in rendered_rows(experiment)), default=0):,} tokens"]
    for part in experiment.parts:
        if part.training and part.too_long:
            notes.append(f"{part.name}: {len(part.too_long)} of {part.n_seen:,} rows too long, left out whole")
    dropped = sum(r.n_demos_dropped for r in rendered_rows(experiment))
    notes += [f"{count(dropped, 'demonstration')} that did not fit dropped whole"] if dropped else []
    for part in experiment.parts:
        if part.n_seen < part.n_rows:
            notes.append(f"{part.n_seen:,} of {part.n_rows:,} rows of {part.name} looked at")
    left_out = tuple(dict.fromkeys(row for part in experiment.parts if part.training for row in part.too_long))
    return Check(name, True, "; ".join(notes), left_out)


def _longer_training_rows(experiment: RenderedExperiment, longest: int) -> str:
    if longest < experiment.limit.tokens:
        return "shorten the rows, or raise tune.max_tokens"
    ways = experiment.limit.how_to_fit()
    return ways.replace("raise max_tokens", "raise max_tokens and tune.max_tokens")


def demos_apart(experiment: RenderedExperiment) -> Check:
    """Whether demonstrations are training rows that are neither in the test set nor the row itself."""
    name, data = "demonstrations are training rows, never from the test set, never the row itself", experiment.data
    train = {row.id: row for row in data.train}
    used = dict.fromkeys(demo for r in rendered_rows(experiment) for demo in r.demo_ids)
    own = [r.row_id for part in experiment.parts if part.training for r in part.rendered if r.row_id in r.demo_ids]
    strange = [demo for demo in used if demo not in train]
    overlap = find_overlap([train[demo] for demo in used if demo in train], data.test)
    bad = (*strange, *sorted(overlap.train_ids), *own)
    if bad:
        details = [f"not training rows: {some(strange)}"] if strange else []
        details += [f"also in the test set: {some(sorted(overlap.train_ids))}"] if overlap else []
        details += [f"shown to itself: {some(own)}"] if own else []
        return Check(name, False, "; ".join(details), tuple(dict.fromkeys(bad)), REPORT, about="data")
    blind = f"; not looked at, since the model chooses: {quoted(experiment.left_out)}" if experiment.left_out else ""
    apart = len(data.overlapping_train_ids)
    never = f"; {count(apart, 'training row')} that occur in the test set are never shown" if apart and used else ""
    return Check(name, True, (f"{len(used):,} rows shown{never}" if used else "none are shown") + blind)


def rendered_alike(experiment: RenderedExperiment) -> Check:
    """Whether training and scoring give a row the same tokens and the same scored span."""
    name = "training and scoring render alike"
    pairs = experiment.pairs
    bad = [scored.row_id for one, scored in pairs if (one.ids, one.n_prompt) != (scored.ids, scored.n_prompt)]
    if bad:
        return Check(name, False, f"other tokens in training than in scoring: {some(bad)}", tuple(bad), REPORT)
    return Check(name, True, f"{count(len(pairs), 'row')} by both" if pairs else "nothing is trained")
