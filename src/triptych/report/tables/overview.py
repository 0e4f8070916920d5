"""Tables of a run: their cells hold numbers, and each renderer writes them its way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from triptych.metrics import Metric
from triptych.metrics.choose import VARIANTS
from triptych.records import Comparison, CurvePoint, RunRecord, TuneSummary
from triptych.report.groups import REPORTED, STRATEGY_NAMES, Setting
from triptych.report.measures import (
    PERPLEXITY,
    average_of,
    meaning,
    measured,
    metric_of_key,
    row_words,
)
from triptych.report.numbers import NONE, Probability
from triptych.report.statistics import verdict
from triptych.report.study import Study
from triptych.report.tables.cells import (
    INTERVAL,
    baselines_note,
    cells_table,
    few_shot_table,
    normalised_table,
    std_note,
    zero_shot_table,
)
from triptych.report.tables.table import AVERAGES, Table, Value, estimate, write_value
from triptych.report.tables.trainings import what_training_did


def study_tables(study: Study) -> dict[str, Table]:
    """The study's tables that this run has, by the name of their files."""
    record = study.record
    parts = {
        **{"zero_shot": zero_shot_table(study), "few_shot": few_shot_table(study)},
        **{"comparisons": comparisons_table(study.comparisons, study.names), "curve": curve_table(record.curve)},
        "accuracy_by_normalisation": normalised_table(study),
    }
    tables = {"study": study_table(study), "cells": cells_table(study)}
    tables |= {name: table for name, table in parts.items() if table.rows}
    for metric in study.metrics:
        if metric != study.metric and (made := study.by(metric).comparisons):
            name = re.sub(r"\W+", "_", metric.name)
            tables[f"comparisons_{name}"] = comparisons_table(made, study.names, of=metric)
    if record.further_curves:
        tables["further_curves"] = further_curves_table(record.further_curves)
    if record.tune:
        tables["settings"] = settings_table(record.tune)
    return tables


def study_table(study: Study) -> Table:
    """What the study's report shows: QLoRA, each zero-shot prompt, each k over seeds, and the best of each."""
    columns = study_columns(study)
    rows: list[tuple[Value, ...]] = [
        (STRATEGY_NAMES[strategy], _what(s, study.record), *levels(s, columns, study), s.over().n)
        for strategy in REPORTED
        for s in sorted(study.of(strategy), key=_order)
    ]
    if len(study.best) > 1:
        rows.append(_best_row(study, columns))
    note = f"{levels_note(study)} {std_note(study.settings)}"
    return Table("The study", ("strategy", "setting", *columns, "seeds"), tuple(rows), note.strip())


def study_columns(study: Study) -> tuple[str, ...]:
    """The deciding metric first, then the run's others; perplexity and bits per character stand beside them always."""
    interval = () if study.metric == PERPLEXITY else (INTERVAL,)
    others = (average_of(metric) for metric in study.metrics)
    return tuple(dict.fromkeys((study.average, *interval, *others, "ppl_mean", "bits_per_char")))


def levels_note(study: Study) -> str:
    """What each number of these columns is, over how many rows; and what no model at all gets right."""
    first, *others = dict.fromkeys((study.metric, *study.metrics, PERPLEXITY))
    words, _, better = meaning(first).rpartition(", ")
    sentences = [f"{average_of(first)}: {words} over {study.n_rows} rows, {better}."]
    if first != PERPLEXITY:
        sentences = [f"{study.n_rows} rows. {average_of(first)}: {meaning(first)}."]
    sentences += [f"{average_of(metric)}: {meaning(metric)}." for metric in others]
    sentences += [f"{INTERVAL}: of {study.average}, over rows."] if first != PERPLEXITY else []
    return " ".join([*sentences, *baselines_note(study)])


def _order(setting: Setting) -> tuple[object, ...]:
    # prompts stay in the order of the grid (sorting is stable); demonstrations go up in k
    if setting.strategy != "few_shot":
        return ()
    first, random = setting.first, setting.select == "random"
    return (setting.prompt, not random, setting.select or "", first.order or "", first.draw or "", setting.k)


def _what(setting: Setting, record: RunRecord) -> str:
    parts = [setting.prompt, *setting.demo_words, *what_training_did(setting, record)]
    if setting.first.searched:
        parts.append(f"chosen on dev rows among {setting.first.searched:,} settings")
    return ", ".join(parts)


def levels(setting: Setting, columns: Sequence[str], study: Study) -> tuple[Value, ...]:
    """A setting's averages, with their spread where it was repeated; None for those it doesn't have."""
    values: list[Value] = []
    for column in columns:
        if column == INTERVAL:
            values.append(study.intervals.get(setting.label))
        elif setting.has(column):
            over = setting.over(column)
            values.append(over if over.n > 1 else over.mean)
        else:
            values.append(None)
    return tuple(values)


def _best_row(study: Study, columns: Sequence[str]) -> tuple[Value, ...]:
    best = list(study.best.values())
    every = zip(*(levels(setting, columns, study) for setting in best), strict=True)
    joined = [" / ".join(write_value(value) or NONE for value in values) for values in every]
    return ("best of each", " / ".join(study.name(s.label) for s in best), *joined, None)


def comparisons_table(comparisons: Sequence[Comparison], short: Mapping[str, str], of: Metric | None = None) -> Table:
    """The paired differences with their tests; `short`: label -> name for people.

    The title names their metric, but for perplexity, which it names where `of` is given.
    """
    rows = tuple(
        (
            *(short.get(c.a, c.a), short.get(c.b, c.b), estimate(c), c.effect_size),
            *(Probability(c.p_value), Probability(c.p_holm), c.wins, c.ties, c.losses),
            verdict(c, "a is better", "b is better"),
        )
        for c in comparisons
    )
    columns = ("a", "b", "a - b", "effect size", "p", "p (Holm)", "rows a better", "tied", "rows b better", "verdict")
    metric = of or (metric_of_key(comparisons[0].metric) if comparisons else PERPLEXITY)
    title = f"Paired differences of {row_words(metric)}" if of or metric != PERPLEXITY else "Paired differences"
    return Table(title, columns, rows, _comparison_note(comparisons, metric))


def _comparison_note(comparisons: Sequence[Comparison], metric: Metric) -> str:
    # where several seeds enter, the test is another one: what all have in common is said once
    methods = "; ".join(dict.fromkeys(part for c in comparisons for part in c.method.split("; ")))
    share = "".join(sorted({f"{c.confidence * 100:g} %" for c in comparisons}))
    of, side = row_words(metric).removeprefix("row "), "above" if metric.higher_is_better else "below"
    what = f"Mean of the rows' {of} differences with its {share} interval; {side} zero, a is better."
    return f"{what} Effect size: mean / SD of the rows' differences. Method: {methods}."


def curve_table(curve: Sequence[CurvePoint]) -> Table:
    """The evaluations during training; the interval's two columns are there where any point has one."""
    bounds = ("ci_low", "ci_high") if any(p.ci_low is not None for p in curve) else ()
    metrics = tuple(dict.fromkeys(name for p in curve for name in p.aggregate.metrics if name not in VARIANTS))
    columns = (
        "split",
        "step",
        "epoch",
        "rows_seen",
        *metrics,
        AVERAGES[0],
        *bounds,
        *AVERAGES[1:],
        "train_loss",
        "lr",
        "seconds",
    )
    rows = tuple(
        tuple(measured(p.aggregate, n) if n in (*AVERAGES, *metrics) else getattr(p, n) for n in columns) for p in curve
    )
    note = "Train loss: nats per scored training token since the point before. Seconds: training without evaluation."
    note += " ci_low, ci_high: 95 % interval of ppl_mean over the rows." if bounds else ""
    return Table("Learning curve", columns, rows, note)


def further_curves_table(curves: Mapping[str, Sequence[CurvePoint]]) -> Table:
    """The evaluations during every training but the first."""
    tables = {name: curve_table(points) for name, points in curves.items()}
    columns = max((table.columns for table in tables.values()), key=len)
    rows = tuple(
        (name, *(dict(zip(table.columns, row, strict=True)).get(column) for column in columns))
        for name, table in tables.items()
        for row in table.rows
    )
    note = max((table.note for table in tables.values()), key=len)
    return Table("Learning curves of the other trainings", ("training", *columns), rows, note)


def settings_table(tune: TuneSummary) -> Table:
    """The hyper-parameters as they were given."""
    return Table("Hyper-parameters", ("setting", "value"), tuple(flat(tune.settings).items()))


def provenance_table(record: RunRecord) -> Table:
    """Where the numbers come from, key by key; the command is shown apart."""
    facts = {key: value for key, value in record.provenance.items() if key != "command"}
    return Table("Provenance", ("what", "value"), tuple(flat(facts).items()))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as `outer.inner -> text`; numbers as they were given, not rounded."""
    texts: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            texts |= flat(value, f"{prefix}{key}.")
        else:
            parts = value if isinstance(value, list | tuple) else [] if value is None else [value]
            texts[f"{prefix}{key}"] = ", ".join(map(str, parts))
    return texts
