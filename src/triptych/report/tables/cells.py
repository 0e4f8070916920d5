"""Tables of cells: every cell, the zero-shot prompts, and few-shot settings over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triptych.metrics.choose import VARIANTS
from triptych.records import Averaged, CellRecord, FewShotSummary
from triptych.report.groups import STRATEGY_NAMES, Setting
from triptych.report.measures import average_of, measured
from triptych.report.numbers import number
from triptych.report.seeds import averaged, selection
from triptych.report.study import Study
from triptych.report.tables.table import AVERAGES, Table, Value

MAJORITY = "always giving the most frequent output of train"
NORMALISED_NAMES = {
    "accuracy": "sum",
    "accuracy_token": "per token",
    "accuracy_char": "per character",
    "accuracy_no_eos": "without EOS (lm-eval's acc)",
    "accuracy_no_eos_char": "without EOS, per character (lm-eval's acc_norm)",
}

FURTHER: dict[str, Callable[[CellRecord], str | float | None]] = {
    "chosen by": selection,
    "order": lambda cell: cell.order,
    "demo similarity": lambda cell: cell.demo_similarity_mean,
    "trained with": lambda cell: None if cell.trained_prompt == cell.prompt else cell.trained_prompt,
    "demos in training": lambda cell: cell.trained_k or None,
    "training seed": lambda cell: None if cell.train_seed is None else str(cell.train_seed),
}
"""Columns of the table of cells that only some runs need."""


INTERVAL = "95 % interval"
"""Of the deciding metric."""


def score_columns(study: Study) -> tuple[str, ...]:
    """The deciding metric and its interval, the run's others, and the four averages of perplexity."""
    return tuple(dict.fromkeys((study.average, INTERVAL, *map(average_of, study.metrics), *AVERAGES)))


def baselines_note(study: Study) -> list[str]:
    """What no model at all gets right, where accuracies are shown."""
    if not any(metric.needs == "options" for metric in study.metrics):
        return []
    known = [(study.chance, "guessing among the options"), (study.record.majority, MAJORITY)]
    parts = [f"{number(share)} by {what}" for share, what in known if share is not None]
    return [f"Without a model, accuracy would be {' and '.join(parts)}."] if parts else []


def few_shot_table(study: Study) -> Table:
    """Each k over its seeds, by every metric and all four averages."""
    summaries = study.record.few_shot
    chosen = any(s.select != "random" for s in summaries)
    fields = ("prompt", *(["select"] if chosen else []), *(["order"] if any(s.order for s in summaries) else []))
    fields, scores = (*fields, "draw", "k"), tuple(name for name in score_columns(study) if name != INTERVAL)
    rows = tuple(
        (
            *(getattr(s, field) for field in fields),
            ", ".join(map(str, s.seeds)),
            *(over_seeds(s, study, score) for score in scores),
        )
        for s in summaries
    )
    fields = (*fields, "seeds", *scores)
    columns = tuple("chosen by" if field == "select" else field for field in fields)
    note = f"Mean over seeds. {std_note(study.of('few_shot'))}".strip()
    if chosen:
        note += " Demonstrations that are ranked and not drawn have no seed, and so no ±."
    return Table("Few-shot over seeds", columns, rows, note)


def over_seeds(summary: FewShotSummary, study: Study, average: str) -> Averaged | None:
    """An average of one k, over its seeds; None where a cell lacks it."""
    if average in AVERAGES:
        found: Averaged | None = getattr(summary, average)
        return found
    aggregates = {cell.cell: cell.aggregate for cell in study.cells}
    values = [measured(aggregates[cell], average) if cell in aggregates else None for cell in summary.cells]
    known = [value for value in values if value is not None]
    return averaged(known) if known and len(known) == len(values) else None


def std_note(every: Sequence[Setting]) -> str:
    """What the ± is over: drawing other demonstrations, or training again."""
    counts = {of: sorted({s.over().n for s in every if s.repeated == of}) for of in ("seeds", "trainings")}
    words = {"seeds": "seeds", "trainings": "training seeds for QLoRA"}
    kinds = [f"{' or '.join(map(str, ns))} {words[of]}" for of, ns in counts.items() if ns]
    return f"± is the standard deviation (n-1, {'; '.join(kinds)})." if kinds else ""


def zero_shot_table(study: Study) -> Table:
    """Each zero-shot prompt, by every metric and all four averages."""
    rows = tuple(
        (
            cell.prompt + (f" (chosen on dev rows among {cell.searched:,})" if cell.searched else ""),
            *_scores(cell, study),
        )
        for cell in study.cells
        if cell.strategy == "zero_shot" and cell.adapter_sha256 is None
    )
    return Table("Zero-shot", ("prompt", *score_columns(study)), rows)


def _scores(cell: CellRecord, study: Study) -> tuple[Value, ...]:
    """What `score_columns` names."""
    return tuple(
        study.intervals.get(cell.cell) if column == INTERVAL else measured(cell.aggregate, column)
        for column in score_columns(study)
    )


def normalised_table(study: Study) -> Table:
    """Accuracy by other scores of an option; without rows where none were kept."""
    names = [name for name in VARIANTS if any(name in cell.aggregate.metrics for cell in study.cells)]
    rows = tuple(
        (study.cell_names[cell.cell], *(measured(cell.aggregate, name) for name in ("accuracy", *names)))
        for cell in study.cells
        if "accuracy" in cell.aggregate.metrics
    )
    columns = ("cell", *(NORMALISED_NAMES[name] for name in ("accuracy", *names)))
    note = (
        "The option with the lowest NLL is the answer. `sum` is what every other table calls accuracy: the whole "
        "option's NLL, its EOS included. The others divide it by the option's tokens or characters, or leave EOS out."
    )
    return Table("Accuracy by normalisation", columns, rows if names else (), note)


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
        *("strategy", "prompt", "k", "draw", "seed", *further, "adapter", *score_columns(study)),
        *("rows", "tokens", "dropped demos", "seconds"),
    )
    how = "Wilson's, over rows" if study.metric.zero_or_one else "BCa bootstrap over rows"
    note = f"Interval: {how}. Tokens: the scored ones. Seconds: scoring, model loading left out."
    note = " ".join([note, *baselines_note(study)])
    if "demo similarity" in further:
        note += " Demo similarity: mean over the rows of how close their demonstrations came to the query (0 to 1)."
    return Table("Every cell", columns, rows, note)
