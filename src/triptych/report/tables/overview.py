"""Tables of a run: their cells hold numbers, and each renderer writes them its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.records import Averaged, Comparison, CurvePoint, RunRecord, TuneSummary
from triptych.report.groups import REPORTED, STRATEGY_NAMES, Setting
from triptych.report.numbers import NONE, Probability
from triptych.report.statistics import verdict
from triptych.report.study import Study
from triptych.report.tables.cells import cells_table, few_shot_table, std_note, zero_shot_table
from triptych.report.tables.table import AVERAGES, Table, Value, estimate, write_value
from triptych.report.tables.trainings import what_training_did


def study_tables(study: Study) -> dict[str, Table]:
    """The study's tables that this run has, by the name of their files."""
    record = study.record
    parts = {
        **{"zero_shot": zero_shot_table(study), "few_shot": few_shot_table(study)},
        **{"comparisons": comparisons_table(study.comparisons, study.names), "curve": curve_table(record.curve)},
    }
    tables = {"study": study_table(study), "cells": cells_table(study)}
    tables |= {name: table for name, table in parts.items() if table.rows}
    if record.further_curves:
        tables["further_curves"] = further_curves_table(record.further_curves)
    if record.tune:
        tables["settings"] = settings_table(record.tune)
    return tables


def study_table(study: Study) -> Table:
    """What the study's report shows: QLoRA, each zero-shot prompt, each k over seeds, and the best of each."""
    rows: list[tuple[Value, ...]] = [
        (STRATEGY_NAMES[strategy], _what(s, study.record), *means(s), s.over().n)
        for strategy in REPORTED
        for s in sorted(study.of(strategy), key=_order)
    ]
    if len(study.best) > 1:
        rows.append(_best_row(study))
    note = f"ppl_mean: mean perplexity per token over {study.n_rows} rows, lower is better. {std_note(study.settings)}"
    return Table("The study", ("strategy", "setting", "ppl_mean", "bits_per_char", "seeds"), tuple(rows), note.strip())


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


def means(setting: Setting) -> tuple[Averaged | float | None, ...]:
    """ppl_mean and bits per character, with their spread where the setting was repeated."""
    return tuple(
        over if over is None or over.n > 1 else over.mean for over in (setting.over(), setting.bits_per_char())
    )


def _best_row(study: Study) -> tuple[Value, ...]:
    best = list(study.best.values())
    columns = [" / ".join(write_value(v) or NONE for v in values) for values in zip(*map(means, best), strict=True)]
    return ("best of each", " / ".join(study.name(s.label) for s in best), *columns, None)


def comparisons_table(comparisons: Sequence[Comparison], short: Mapping[str, str]) -> Table:
    """The paired differences with their tests; `short`: label -> name for people."""
    rows = tuple(
        (
            *(short.get(c.a, c.a), short.get(c.b, c.b), estimate(c), c.effect_size),
            *(Probability(c.p_value), Probability(c.p_holm), c.wins, c.ties, c.losses),
            verdict(c, "a is better", "b is better"),
        )
        for c in comparisons
    )
    columns = ("a", "b", "a - b", "effect size", "p", "p (Holm)", "rows a better", "tied", "rows b better", "verdict")
    chrf = any(c.metric == "chrf" for c in comparisons)
    title = "Paired differences of row chrF++" if chrf else "Paired differences"
    return Table(title, columns, rows, _comparison_note(comparisons, chrf=chrf))


def _comparison_note(comparisons: Sequence[Comparison], *, chrf: bool) -> str:
    methods = "; ".join(dict.fromkeys(c.method for c in comparisons))
    share = "".join(sorted({f"{c.confidence * 100:g} %" for c in comparisons}))
    of, side = ("chrF++", "above") if chrf else ("perplexity", "below")
    what = f"Mean of the rows' {of} differences with its {share} interval; {side} zero, a is better."
    return f"{what} Effect size: mean / SD of the rows' differences. Method: {methods}."


def curve_table(curve: Sequence[CurvePoint]) -> Table:
    """The evaluations during training; the interval's two columns are there where any point has one."""
    bounds = ("ci_low", "ci_high") if any(p.ci_low is not None for p in curve) else ()
    columns = (
        "split",
        "step",
        "epoch",
        "rows_seen",
        AVERAGES[0],
        *bounds,
        *AVERAGES[1:],
        "train_loss",
        "lr",
        "seconds",
    )
    rows = tuple(tuple(getattr(p.aggregate if name in AVERAGES else p, name) for name in columns) for p in curve)
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
