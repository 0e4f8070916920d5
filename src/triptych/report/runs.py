"""Several runs beside each other: only what is comparable is compared, and what isn't says why.

A difference of perplexities needs the same rows, the same protocol and the same tokenizer: perplexity is per token, and
another tokenizer makes other tokens. Bits per character and metrics of answers need only the same rows and the same
protocol, accuracy the same options too. Runs on other rows stand side by side, with no difference drawn between them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from triptych.errors import ConfigError
from triptych.metrics import Metric
from triptych.records import ItemScore
from triptych.records.process_lock import work_in
from triptych.records.run_files import COMPARISON
from triptych.records.store import read_items, read_run, write_text
from triptych.records.texts import read_rows_shown
from triptych.report.build import write_tables
from triptych.report.groups import STRATEGY_NAMES, Setting, capital, items_of
from triptych.report.measures import PERPLEXITY, rows_of
from triptych.report.numbers import Interval, Probability
from triptych.report.statistics import compare_rows, corrected, interval, verdict
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value, escape, estimate, to_markdown


@dataclass(frozen=True)
class Run:
    """One run with its rows, named so that no two have the same name."""

    name: str
    study: Study
    texts: Mapping[str, tuple[str, str]]

    @property
    def rows(self) -> dict[str, ItemScore]:
        """Its test rows by id, as the first cell scored them."""
        return {item.id: item for item in next(iter(self.study.items.values()), ())}


Measure = Callable[[Setting, Run], dict[str, float]]
"""A setting's value on each row of a run."""


@dataclass(frozen=True)
class RunsCompared:
    """What may be said of several runs together."""

    refused: tuple[str, ...]
    """What was not compared, and why."""
    tables: dict[str, Table]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the runs.

    Raises:
        DataError: a record is missing, torn or of another schema.
        ConfigError: a folder is named twice, or nothing was scored in one.
    """
    runs: list[Run] = []
    for place, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:place]]:
            raise ConfigError("a run is named twice", where=str(folder), fix="name each run once")
        record = read_run(folder)
        items = read_items(folder / "items.parquet")
        if not record.cells:
            raise ConfigError("nothing was scored in this run, so it can't be compared", where=str(folder))
        texts = read_rows_shown(folder / "rows.parquet").get("test", {})
        runs.append(Run(record.name, Study(record, items), texts))
    if len({run.name for run in runs}) < len(runs):
        return [replace(run, name=str(folder)) for folder, run in zip(folders, runs, strict=True)]
    return runs


def _other_rows(a: Run, b: Run) -> str | None:
    """Why the two were not scored on the same rows; None if they were."""
    ours, theirs = a.rows, b.rows
    if only := ours.keys() ^ theirs.keys():
        return f"other test rows: {len(only):,} are in only one of them ({len(ours):,} and {len(theirs):,} rows)"
    with_texts = bool(a.texts and b.texts)
    lengths = [row for row in ours if ours[row].n_chars != theirs[row].n_chars]
    texts = [row for row in ours if with_texts and a.texts.get(row) != b.texts.get(row)]
    if changed := lengths or texts:
        return f"other test rows: {len(changed):,} of {len(ours):,} have the same id and another text"
    files = [run.study.fact("data", "test", "sha256") for run in (a, b)]
    if not with_texts and all(files) and files[0] != files[1]:
        return "their test files differ, and without rows.parquet nobody can tell whether the rows do"
    return None


def _other_protocol(a: Run, b: Run) -> str | None:
    """Why the two were not scored by the same rules; None if they were."""
    rules = [(run.study.record.protocol, run.study.fact("max_tokens")) for run in (a, b)]
    for what, ours, theirs in zip(("protocol", "longest input (max_tokens)"), *rules, strict=True):
        if ours != theirs:
            return f"another {what}: {ours} and {theirs}"
    return None


def _other_tokenizer(a: Run, b: Run) -> str | None:
    """Why perplexities per token of the two mean different things; None if they mean the same."""
    ours, theirs = (run.study.fact("model", "tokenizer_sha256") for run in (a, b))
    if ours and theirs and ours != theirs:
        return "another tokenizer: perplexity per token can't be compared, bits per character can"
    if not (ours and theirs):
        return "the run doesn't say which tokenizer it used: bits per character can be compared"
    counts = [row for row, item in a.rows.items() if row in b.rows and b.rows[row].n_tokens != item.n_tokens]
    return f"{len(counts):,} rows have other numbers of scored tokens" if counts else None


def compare_runs(runs: Sequence[Run]) -> RunsCompared:
    """Each run against the first."""
    first, refused = runs[0], []
    by_token, by_character = [first], [first]
    for run in runs[1:]:
        pair = f"{run.name} against {first.name}"
        if why := _other_rows(first, run) or _other_protocol(first, run):
            refused.append(f"{pair}: no difference is drawn, {why}.")
        elif why := _other_tokenizer(first, run):
            refused.append(f"{pair}: perplexities are not compared, {why}.")
            by_character.append(run)
        else:
            by_token.append(run)
            by_character.append(run)
    tables = {"runs": _overview(runs), "levels": _levels(runs)}
    measures: list[tuple[str, str, Measure, list[Run], Metric]] = [
        ("perplexity", "Perplexity", _ppl, by_token, PERPLEXITY),
        ("bits_per_char", "Bits per character", _bits, by_character, PERPLEXITY),
    ]
    for metric in (metric for metric in first.study.metrics if metric != PERPLEXITY):
        with_it = [run for run in by_character if metric in run.study.metrics]
        for run in with_it[1:] if metric.needs == "options" else ():
            if _options(run) != _options(first):
                refused.append(f"{run.name} against {first.name}: accuracies are not compared, other options.")
                with_it.remove(run)
        name, title = re.sub(r"\W+", "_", metric.name), capital(metric.label)
        measures.append((name, title, partial(_answers, metric), with_it, metric))
    for name, title, measure, chosen, metric in measures:
        if (table := _differences(f"{title}: differences to the first run", chosen, measure, metric)).rows:
            tables[name] = table
    return RunsCompared(tuple(refused), tables)


def _overview(runs: Sequence[Run]) -> Table:
    rows: list[tuple[Value, ...]] = [
        (
            run.name,
            *(str(run.study.fact("model", key) or "") for key in ("name", "quantize")),
            str(run.study.fact("model", "tokenizer_sha256") or "")[:8],
            len(run.rows),
            str(run.study.fact("data", "test", "sha256") or "")[:8],
            run.study.record.protocol,
        )
        for run in runs
    ]
    columns = ("run", "model", "quantize", "tokenizer", "rows", "test file", "protocol")
    return Table("The runs", columns, tuple(rows), "Tokenizer and test file: the first 8 characters of their SHA-256.")


def _levels(runs: Sequence[Run]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for run in runs:
        for strategy, setting in run.study.by(PERPLEXITY).best.items():
            bits = list(_bits(setting, run).values())
            level = (float(np.mean(bits)), Interval(*interval(bits))) if bits else (None, None)
            rows.append((run.name, STRATEGY_NAMES[strategy], setting.label, *level))
    columns = ("run", "strategy", "best setting", "bits_per_char", "95 % interval")
    return Table("Bits per character", columns, tuple(rows), "Lower is better; chosen by ppl_mean within each run.")


def _bits(setting: Setting, run: Run) -> dict[str, float]:
    """Row id -> bits over the mean number of characters of a row: their mean is the run's bits per character.

    Empty where the outputs have no character.
    """
    rows = items_of(setting, run.study.items)
    characters = sum(item.n_chars for item in rows) / len(rows)
    if not characters:
        return {}
    return _over_seeds(rows, lambda item: item.nll_nats / math.log(2) / characters)


def _ppl(setting: Setting, run: Run) -> dict[str, float]:
    return _over_seeds(items_of(setting, run.study.items), lambda item: item.ppl)


def _options(run: Run) -> set[str | None]:
    return {cell.options_sha256 for cell in run.study.cells}


def _answers(metric: Metric, setting: Setting, run: Run) -> dict[str, float]:
    return rows_of(items_of(setting, run.study.items), metric)


def _over_seeds(rows: Sequence[ItemScore], value: Callable[[ItemScore], float]) -> dict[str, float]:
    by_row: dict[str, list[float]] = {}
    for item in rows:
        by_row.setdefault(item.id, []).append(value(item))
    return {row: float(np.mean(values)) for row, values in by_row.items()}


def _differences(title: str, runs: Sequence[Run], measure: Measure, metric: Metric) -> Table:
    first, made = runs[0], []
    best_of_first = first.study.by(metric).best
    for run in runs[1:]:
        for strategy, setting in run.study.by(metric).best.items():
            if strategy in best_of_first:
                ours, theirs = measure(setting, run), measure(best_of_first[strategy], first)
                shared = ours.keys() & theirs.keys() if metric != PERPLEXITY else ours.keys()
                ours, theirs = _kept(ours, shared), _kept(theirs, shared) if metric != PERPLEXITY else theirs
                if ours and theirs:
                    made.append((strategy, compare_rows(run.name, ours, first.name, theirs, metric=metric.key)))
    rows = tuple(
        (c.a, STRATEGY_NAMES[strategy], estimate(c), Probability(c.p_holm), verdict(c, "better", "worse"))
        for (strategy, _), c in zip(made, corrected([c for _, c in made]), strict=True)
    )
    columns = ("run", "strategy", f"difference to {first.name}", "p (Holm)", "verdict")
    side = "above" if metric.higher_is_better else "below"
    note = f"Best setting against best, paired by row; {side} zero, this run is better. 95 % BCa intervals over rows."
    return Table(title, columns, rows, note)


def _kept(values: Mapping[str, float], rows: Collection[str]) -> dict[str, float]:
    return {row: value for row, value in values.items() if row in rows}


def write_comparison(compared: RunsCompared, folder: Path) -> Path:
    """Write `comparison.md` and each table as CSV and LaTeX; returns the path of the first.

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write has the name of one of these; nothing is written.
    """
    parts = ["# Several runs"]
    if compared.refused:
        parts.append("\n".join(f"- {escape(sentence)}" for sentence in compared.refused))
    for table in compared.tables.values():
        parts.append(f"## {escape(table.title)}\n\n{to_markdown(table)}\n\n{escape(table.note)}")
    path = folder / "comparison.md"
    with work_in(folder) as manifest:
        manifest.check_free(COMPARISON)
        write_text(path, "\n\n".join(parts) + "\n")
        write_tables(compared.tables, folder / "tables")
    return path
