"""What is said of the trainings and of the search on dev rows that came before the test rows were scored."""

from __future__ import annotations

from triptych.records import RunRecord, TuneSummary
from triptych.records.schema import SearchRecord
from triptych.report.groups import Setting, trained_with
from triptych.report.tables.table import Table

MOST_CANDIDATES = 20


def trainings_of(record: RunRecord) -> tuple[TuneSummary, ...]:
    """All trainings of a run; runs of earlier versions have one or none."""
    return record.trainings or ((record.tune,) if record.tune else ())


def trainings_behind(setting: Setting, record: RunRecord) -> tuple[TuneSummary, ...]:
    """The trainings whose adapters a setting's cells were scored with; empty where the records don't say."""
    every = trainings_of(record)
    if names := {cell.training for cell in setting.cells if cell.training}:
        return tuple(training for training in every if training.name in names)
    adapters = {cell.adapter_sha256 for cell in setting.cells}
    return tuple(t for t in every if t.adapter_sha256 in adapters) or (every if len(every) == 1 else ())


def what_training_did(setting: Setting, record: RunRecord) -> list[str]:
    """`3 epochs on 10,000 rows, step 1,876`, after `trained_with`."""
    if setting.strategy != "qlora":
        return []
    parts = trained_with(setting.first)
    behind = trainings_behind(setting, record)
    if behind:
        first, steps = behind[0], sorted({training.selected_step for training in behind})
        shown = f"step {steps[0]:,}" if len(steps) == 1 else f"steps {steps[0]:,} to {steps[-1]:,}"
        parts.append(f"{first.epochs:g} epoch{'s' * (first.epochs != 1)} on {first.rows:,} rows, {shown}")
    return parts


def training_tables(record: RunRecord) -> dict[str, Table]:
    """The tables of further trainings and of a search, by the name of their files."""
    tables = {}
    if len(trainings_of(record)) > 1:
        tables["trainings"] = trainings_table(record)
    if record.search:
        tables["search"] = search_table(record.search)
    return tables


def trainings_table(record: RunRecord) -> Table:
    """What each training did, and the mean perplexity of its first cell: scored as it was trained."""
    first = {cell.training: cell.aggregate.ppl_mean for cell in reversed(record.cells) if cell.training}
    rows = tuple(
        (
            *(t.name or t.prompt, t.prompt, t.k, None if t.seed is None else str(t.seed), t.rows, t.steps),
            *(t.selected_step, first.get(t.name or ""), t.seconds, t.adapter_sha256[:8]),
        )
        for t in trainings_of(record)
    )
    columns = ("training", "prompt", "demos", "seed", "rows", "steps", "used step", "ppl_mean", "seconds", "adapter")
    note = "ppl_mean: of its first cell. Seconds: training without evaluation. Adapter: the beginning of its SHA-256."
    return Table("Trainings", columns, rows, note)


def search_table(search: SearchRecord) -> Table:
    """What a search tried on the dev rows, the best first."""
    shown = search.candidates[:MOST_CANDIDATES]
    other = () if search.metric == "perplexity" else (f"{search.metric} (dev)",)
    rows = tuple(
        (
            c.cell,
            c.rounds,
            c.n_rows,
            *([c.value] if other else ()),
            c.ppl_mean,
            "winner" if c.cell == search.winner else "",
        )
        for c in shown
    )
    tried = len(search.candidates)
    note = (
        f"{tried:,} settings were tried on up to {search.n_dev:,} dev rows ({search.rows_scored:,} rows scored in all);"
        " the winner was chosen on these rows, and only it was scored on the test rows."
    )
    note += f" The first {MOST_CANDIDATES} are shown." if tried > MOST_CANDIDATES else ""
    columns = ("setting", "rounds", "dev rows", *other, "ppl_mean (dev)", "")
    return Table("Search on the dev rows", columns, rows, note)
