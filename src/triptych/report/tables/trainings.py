"""Tables of what was learned or looked for before the test rows were scored: trainings, and a search on dev rows."""

from __future__ import annotations

from triptych.records import RunRecord
from triptych.records.schema import SearchRecord
from triptych.report.tables.table import Table
from triptych.report.trainings import trainings_of

MOST_CANDIDATES = 20


def training_tables(record: RunRecord) -> dict[str, Table]:
    """Those of them that say more than the text does, by the name of their files."""
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
    note = (
        "ppl_mean: of the training's first cell. Seconds: training without evaluation. Adapter: SHA-256, its beginning."
    )
    return Table("Trainings", columns, rows, note)


def search_table(search: SearchRecord) -> Table:
    """What a search tried on the dev rows, the best first."""
    rows = tuple(
        (c.cell, c.rounds, c.n_rows, c.ppl_mean, "winner" if c.cell == search.winner else "")
        for c in search.candidates[:MOST_CANDIDATES]
    )
    tried = len(search.candidates)
    note = (
        f"{tried:,} settings were tried on up to {search.n_dev:,} dev rows ({search.rows_scored:,} rows scored in all);"
        " the winner was chosen on these rows, and only it was scored on the test rows."
    )
    note += f" The first {MOST_CANDIDATES} are shown." if tried > MOST_CANDIDATES else ""
    return Table("Search on the dev rows", ("setting", "rounds", "dev rows", "ppl_mean (dev)", ""), rows, note)
