"""Tables of cells: every cell, the zero-shot prompts, and few-shot settings over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triptych.records import CellRecord
from triptych.report.groups import STRATEGY_NAMES, Setting
from triptych.report.seeds import selection
from triptych.report.study import Study
from triptych.report.tables.table import AVERAGES, Table, Value, averages

FURTHER: dict[str, Callable[[CellRecord], str | float | None]] = {
    "chosen by": selection,
    "order": lambda cell: cell.order,
    "demo similarity": lambda cell: cell.demo_similarity_mean,
    "trained with": lambda cell: None if cell.trained_prompt == cell.prompt else cell.trained_prompt,
    "demos in training": lambda cell: cell.trained_k or None,
    "training seed": lambda cell: None if cell.train_seed is None else str(cell.train_seed),
}
"""Columns of the table of cells that only some runs need."""


def few_shot_table(study: Study) -> Table:
    """Each k over its seeds, by all four averages."""
    summaries = study.record.few_shot
    chosen = any(s.select != "random" for s in summaries)
    fields = ("prompt", *(["select"] if chosen else []), *(["order"] if any(s.order for s in summaries) else []))
    fields = (*fields, "draw", "k", "seeds", *AVERAGES)
    rows = tuple(
        tuple(", ".join(map(str, s.seeds)) if field == "seeds" else getattr(s, field) for field in fields)
        for s in summaries
    )
    columns = tuple("chosen by" if field == "select" else field for field in fields)
    note = f"Mean over seeds. {std_note(study.of('few_shot'))}".strip()
    if chosen:
        note += " Demonstrations that are ranked and not drawn have no seed, and so no ±."
    return Table("Few-shot over seeds", columns, rows, note)


def std_note(every: Sequence[Setting]) -> str:
    """What the ± is over: drawing other demonstrations, or training again."""
    counts = {of: sorted({s.over().n for s in every if s.repeated == of}) for of in ("seeds", "trainings")}
    words = {"seeds": "seeds", "trainings": "training seeds for QLoRA"}
    kinds = [f"{' or '.join(map(str, ns))} {words[of]}" for of, ns in counts.items() if ns]
    return f"± is the standard deviation (n-1, {'; '.join(kinds)})." if kinds else ""


def zero_shot_table(study: Study) -> Table:
    """Each zero-shot prompt, by all four averages."""
    rows = tuple(
        (
            cell.prompt + (f" (chosen on dev rows among {cell.searched:,})" if cell.searched else ""),
            *_scores(cell, study),
        )
        for cell in study.cells
        if cell.strategy == "zero_shot" and cell.adapter_sha256 is None
    )
    return Table("Zero-shot", ("prompt", "ppl_mean", "95 % interval", *AVERAGES[1:]), rows)


def _scores(cell: CellRecord, study: Study) -> tuple[Value, ...]:
    """ppl_mean, its interval, and the other averages."""
    return (cell.aggregate.ppl_mean, study.intervals.get(cell.cell), *averages(cell.aggregate)[1:])


def cells_table(study: Study) -> Table:
    """Every cell."""
    cells = study.cells
    further = {name: get for name, get in FURTHER.items() if any(get(cell) not in (None, "random") for cell in cells)}
    rows = tuple(
        (
            *(STRATEGY_NAMES[cell.strategy], cell.prompt, cell.k, cell.draw),
            None if cell.seed is None else str(cell.seed),
            *(get(cell) for get in further.values()),
            cell.adapter_sha256[:8] if cell.adapter_sha256 else None,
            *_scores(cell, study),
            *(cell.aggregate.n_rows, cell.aggregate.n_tokens, cell.demos_dropped, cell.seconds),
        )
        for cell in cells
    )
    columns = (
        *("strategy", "prompt", "k", "draw", "seed", *further, "adapter", "ppl_mean", "95 % interval", *AVERAGES[1:]),
        *("rows", "tokens", "dropped demos", "seconds"),
    )
    note = "Interval: BCa bootstrap over rows. Tokens: the scored ones. Seconds: scoring, model loading left out."
    if "demo similarity" in further:
        note += " Demo similarity: mean over the rows of how close their demonstrations came to the query (0 to 1)."
    return Table("Every cell", columns, rows, note)
