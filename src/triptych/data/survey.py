"""What is in a data file that may spoil a training or a score: `triptych data check`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from triptych.data.bodies import Templates, find_templates
from triptych.data.checks import by_test_row, find_overlap, normalise
from triptych.data.findings import Across, FileSurvey, Group, Lengths, Likeness, Repeats, Survey, odd_characters
from triptych.data.near import Pair, near_pairs
from triptych.data.readers import RowsRead, read_source
from triptych.data.row import Row
from triptych.progress import Reporter, Silent

WITHIN = 0.7
"""Rows of one file are near-duplicates from this Jaccard index of their bodies' trigrams on."""
ACROSS = 0.5
"""A test row is near a train row from this one on: less is enough to doubt a score."""
_EXAMPLES = 5
_SHOWN = 60
_ANSWER_SHARE = 0.03
"""Share of outputs from which on their common beginning is a template ("答案："), not just a frequent phrase."""
_PERCENTILES = (50, 95, 99)

CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Texts:
    """A file's rows and what they are compared by, in the same order."""

    rows: list[Row]
    bodies: list[str]
    answers: list[str]


def survey(
    train: str | Path,
    test: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    within: float = WITHIN,
    across: float = ACROSS,
    count_tokens: CountTokens | None = None,
    reporter: Reporter | None = None,
) -> Survey:
    """Look through a file, or a train and a test file. Rows needn't have outputs.

    `within` is the Jaccard index from which bodies of one file are near-duplicates, `across` the same between test and
    train. `columns` is as for `read_source`.

    Raises:
        DataError: a file can't be read as rows.
    """
    reporter = reporter or Silent()
    read = [
        read_source(source, need_output=False, to_answer=False, columns=columns)
        for source in (train, test)
        if source is not None
    ]
    everything = [row for one in read for row in one.rows]
    asked = find_templates([row.instruction for row in everything])
    answered = find_templates([row.output or "" for row in everything], share=_ANSWER_SHARE)
    texts = [_texts(one.rows, asked, answered, reporter) for one in read]
    paths = [str(source) for source in (train, test) if source is not None]
    files = [_file(*one, within, count_tokens, reporter) for one in zip(paths, read, texts, strict=True)]
    shared = sorted(asked.heads | asked.tails | {f"{opening}:" for opening in asked.openings})
    between = _across(texts[0], texts[1], across, reporter) if len(texts) > 1 else None
    return Survey(files[0], files[1] if len(files) > 1 else None, between, tuple(shared))


def _texts(rows: list[Row], asked: Templates, answered: Templates, reporter: Reporter) -> _Texts:
    bodies, answers = [], []
    with reporter.task("normalising", len(rows)) as advance:
        for row in rows:
            bodies.append(normalise(asked.body(row.instruction)))
            answers.append(normalise(answered.body(row.output)) if row.output else "")
            advance(1)
    return _Texts(rows, bodies, answers)


def _file(
    path: str, read: RowsRead, texts: _Texts, within: float, count_tokens: CountTokens | None, reporter: Reporter
) -> FileSurvey:
    rows = texts.rows
    with reporter.task("near-duplicates", len(rows)) as advance:
        pairs = near_pairs(texts.bodies, within, advance=advance)
    return FileSurvey(
        path=path,
        format=read.format,
        notes=read.notes,
        n_rows=len(rows),
        n_in_file=read.n_in_file,
        n_without_output=sum(row.output is None for row in rows),
        n_empty_outputs=sum(row.output is not None and not row.output.strip() for row in rows),
        n_copies=sum(body == answer != "" for body, answer in zip(texts.bodies, texts.answers, strict=True)),
        n_padded=sum(any(text != text.strip() for text in (row.instruction, row.output or "")) for row in rows),
        rows=_repeats(rows, [(row.instruction, row.output) if row.output is not None else None for row in rows]),
        instructions=_repeats(rows, [row.instruction for row in rows]),
        bodies=_repeats(rows, texts.bodies),
        outputs=_repeats(rows, texts.answers),
        flipped=_flipped(texts),
        near=_likeness(pairs, within, rows, rows),
        lengths=_lengths(rows, count_tokens, reporter),
        odd=odd_characters(rows),
    )


def _repeats(rows: Sequence[Row], keys: Iterable[Hashable]) -> Repeats:
    """Groups of rows with equal keys; empty keys are no key."""
    first: dict[Hashable, int] = {}
    groups: dict[Hashable, list[int]] = {}
    for at, key in enumerate(keys):
        if key and (known := first.setdefault(key, at)) != at:
            groups.setdefault(key, [known]).append(at)
    largest = sorted(groups.items(), key=lambda item: -len(item[1]))[:_EXAMPLES]
    examples = tuple(
        Group(_shown(key), tuple(rows[at].id for at in members[:_EXAMPLES]), len(members)) for key, members in largest
    )
    return Repeats(len(groups), sum(map(len, groups.values())), examples)


def _flipped(texts: _Texts) -> Repeats:
    """Pairs that are in the file both ways round."""
    pairs = list(zip(texts.bodies, texts.answers, strict=True))
    there = {pair for pair in pairs if pair[0] and pair[1] and pair[0] != pair[1]}
    return _repeats(
        texts.rows,
        [tuple(sorted(pair)) if pair in there and (pair[1], pair[0]) in there else None for pair in pairs],
    )


def _likeness(pairs: Sequence[Pair], threshold: float, left: Sequence[Row], right: Sequence[Row]) -> Likeness:
    same_file = left is right
    n_rows = len({pair.a for pair in pairs} | ({pair.b for pair in pairs} if same_file else set()))
    best = sorted(pairs, key=lambda pair: -pair.jaccard)[:_EXAMPLES]
    at = 0 if same_file else len(left)
    examples = tuple((left[pair.a].id, right[pair.b - at].id, round(pair.jaccard, 3)) for pair in best)
    return Likeness(threshold, len(pairs), n_rows, examples)


def _across(train: _Texts, test: _Texts, threshold: float, reporter: Reporter) -> Across:
    overlap = find_overlap(train.rows, test.rows)
    with reporter.task("test rows near train rows", len(train.rows) + len(test.rows)) as advance:
        pairs = near_pairs(test.bodies + train.bodies, threshold, across=len(test.rows), advance=advance)
    bodies, answers = _places(train.bodies), _places(train.answers)
    either = [[*answers.get(text, ()), *bodies.get(text, ())] for text in test.answers]
    return Across(
        exact=_from_pairs(overlap.exact, test.rows),
        instructions=_from_pairs(overlap.normalised, test.rows),
        bodies=_meeting(test.rows, train.rows, [bodies.get(text, []) for text in test.bodies]),
        outputs=_meeting(test.rows, train.rows, either, output=True),
        near=_likeness(pairs, threshold, test.rows, train.rows),
    )


def _places(texts: Iterable[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        if text:
            places.setdefault(text, []).append(at)
    return places


def _from_pairs(pairs: Iterable[tuple[str, str]], test: Sequence[Row]) -> Repeats:
    texts = {row.id: row.instruction for row in test}
    met = by_test_row(pairs)
    examples = [
        Group(_shown(texts[test_id]), (test_id, *ids[: _EXAMPLES - 1]), 1 + len(ids))
        for test_id, ids in islice(met.items(), _EXAMPLES)
    ]
    return Repeats(len(met), sum(map(len, met.values())), tuple(examples))


def _meeting(
    test: Sequence[Row], train: Sequence[Row], places: Sequence[Sequence[int]], *, output: bool = False
) -> Repeats:
    met = [(row, there) for row, there in zip(test, places, strict=True) if there]
    examples = [
        Group(
            _shown((row.output or "") if output else row.instruction),
            (row.id, *(train[at].id for at in there[: _EXAMPLES - 1])),
            1 + len(there),
        )
        for row, there in met[:_EXAMPLES]
    ]
    return Repeats(len(met), len({at for _, there in met for at in there}), tuple(examples))


def _lengths(rows: Sequence[Row], count_tokens: CountTokens | None, reporter: Reporter) -> dict[str, Lengths]:
    texts = {
        "instruction": [row.instruction for row in rows],
        "output": [row.output for row in rows if row.output is not None],
    }
    found = {name: _spread([len(text) for text in column]) for name, column in texts.items() if column}
    if count_tokens is not None:
        for name, column in texts.items():
            if column:
                reporter.info(f"counting tokens of {len(column)} {name}s")
                found[f"{name} tokens"] = _spread(count_tokens(column))
    return found


def _spread(lengths: Sequence[int]) -> Lengths:
    values = np.asarray(lengths)
    p50, p95, p99 = (float(value) for value in np.percentile(values, _PERCENTILES))
    return Lengths(round(float(values.mean()), 2), p50, p95, p99, int(values.max()))


def _shown(key: Hashable) -> str:
    text = " ⟶ ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
