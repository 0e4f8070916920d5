"""Answers among options by class: macro-F1, which options are confused, and how far probabilities can be trusted.

The probability of an answer is that of its option given that one of the options is the answer: softmax of -NLL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from triptych.metrics import metric_of
from triptych.metrics.classes import BINS, Bin, confusion, ece, macro_f1, probabilities, reliability
from triptych.records import CellRecord, ItemScore
from triptych.records.schema import Strategy
from triptych.report.groups import Setting
from triptych.report.numbers import number
from triptych.report.series import Chart, Series
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

ACCURACY = metric_of("accuracy")
MOST_OPTIONS = 200
"""A table of more can't be read, and isn't made."""
WHOLE = 20
"""Up to here a report shows the whole table, else the pairs that are confused most."""
MOST_PAIRS = 30
NO_OPTION = "(none of the options)"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cell answered, row by row."""

    correct: tuple[int | None, ...]
    """The reference's place among the row's options."""
    chosen: tuple[int, ...]
    confidence: tuple[float, ...]
    """Probability of the chosen option."""

    @property
    def right(self) -> list[float]:
        """1 where the answer is the reference."""
        return [float(a == b) for a, b in zip(self.correct, self.chosen, strict=True)]

    @property
    def curve(self) -> list[Bin]:
        """The bins of the reliability curve that have rows."""
        return reliability(self.confidence, self.right)


def answers_of(items: Sequence[ItemScore]) -> Answers:
    """The answers of a cell's rows whose options were scored; of options with the same NLL, the first."""
    scored = [item for item in items if item.option_nll]
    chosen = tuple(item.option_nll.index(min(item.option_nll)) for item in scored)
    sure = tuple(probabilities(item.option_nll)[place] for item, place in zip(scored, chosen, strict=True))
    return Answers(tuple(item.correct for item in scored), chosen, sure)


def best_cells(study: Study) -> dict[Strategy, CellRecord]:
    """Of each strategy, the cell with the highest accuracy within its best setting; empty without options and rows."""
    if ACCURACY not in study.metrics:
        return {}
    found = {}
    for strategy, setting in study.by(ACCURACY).best.items():
        cell = _best_cell(setting)
        if any(item.option_nll for item in study.items.get(cell.cell, ())):
            found[strategy] = cell
    return found


def _best_cell(setting: Setting) -> CellRecord:
    return max(setting.cells, key=lambda cell: cell.aggregate.metrics[ACCURACY.name].value)


def class_tables(study: Study) -> tuple[dict[str, Table], dict[str, Table]]:
    """Tables that a report shows, and further ones that are files only, by the names of their files."""
    best = best_cells(study)
    if not best:
        return {}, {}
    shown, files = {"classes": classes_table(study)}, {}
    options = study.record.choices
    for strategy, cell in best.items() if options and len(options) <= MOST_OPTIONS else ():
        name, answers = study.cell_names[cell.cell], answers_of(study.items[cell.cell])
        whole = confusion_table(name, answers, options)
        if len(options) <= WHOLE:
            shown[f"confusion_{strategy}"] = whole
            continue
        files[f"confusion_{strategy}"] = whole
        shown[f"confused_{strategy}"] = confused_table(name, answers, options)
    return shown, files


def classes_table(study: Study) -> Table:
    """Macro-F1 and calibration of every cell whose options were scored."""
    rows: list[tuple[Value, ...]] = []
    for cell in study.cells:
        answers = answers_of(study.items.get(cell.cell, ()))
        if answers.chosen:
            sure = sum(answers.confidence) / len(answers.confidence)
            right = sum(answers.right) / len(answers.right)
            f1 = macro_f1(answers.correct, answers.chosen) if study.record.choices else None
            rows.append((study.cell_names[cell.cell], right, f1, sure, ece(answers.curve), len(answers.chosen)))
    columns = ("cell", "accuracy", "macro_f1", "mean confidence", "ece", "rows")
    note = (
        "macro_f1: mean of the options' F1, over those that are some row's reference or answer. Confidence: "
        "probability of the answer, given that it is one of the options (softmax of -NLL). ece: expected calibration "
        f"error, the mean distance of confidence and accuracy in {BINS} bins of equal width; 0 is best. A mean "
        "confidence above the accuracy is overconfidence."
    )
    return Table("Classes and calibration", columns, tuple(rows), note)


def confusion_table(name: str, answers: Answers, options: Sequence[str]) -> Table:
    """A line for each reference, a column for each answer."""
    counts = confusion(answers.correct, answers.chosen)
    references: list[int | None] = [*range(len(options)), *([None] if None in answers.correct else [])]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (_called(reference, options), *(counts.get((reference, place), 0) for place in range(len(options))))
        for reference in references
    )
    note = "Lines: the reference. Columns: the answer. Numbers of rows; right answers are on the diagonal."
    return Table(f"Confusion of {name}", ("reference", *options), rows, note)


def confused_table(name: str, answers: Answers, options: Sequence[str]) -> Table:
    """The pairs that are confused most, the most frequent first."""
    counts = confusion(answers.correct, answers.chosen)
    wrong = sorted((pair for pair in counts.items() if pair[0][0] != pair[0][1]), key=lambda pair: -pair[1])
    of_reference = {one: answers.correct.count(one) for one in set(answers.correct)}
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (_called(reference, options), options[answer], count, of_reference[reference])
        for (reference, answer), count in wrong[:MOST_PAIRS]
    )
    missed = sum(count for _, count in wrong)
    note = f"{missed:,} of {len(answers.chosen):,} rows are wrong, in {len(wrong):,} pairs of reference and answer"
    note += f", of which the {MOST_PAIRS} most frequent are shown" if len(wrong) > MOST_PAIRS else ""
    return Table(
        f"Confused most by {name}",
        ("reference", "answer", "rows", "rows of the reference"),
        rows,
        f"{note}. All: the files `confusion_…`.",
    )


def _called(option: int | None, options: Sequence[str]) -> str:
    return NO_OPTION if option is None else options[option]


def calibration_chart(study: Study) -> Chart | None:
    """Accuracy against confidence in bins, for the best cell of each strategy; on the diagonal one can trust it."""
    series = [Series("equal", "as sure as right", (0.0, 1.0), (0.0, 1.0))]
    for strategy, cell in best_cells(study).items():
        curve = answers_of(study.items[cell.cell]).curve
        texts = tuple(f"{one.n:,} rows: sure {number(one.confidence)}, right {number(one.accuracy)}" for one in curve)
        name = f"{study.cell_names[cell.cell]}: ECE {number(cast('float', ece(curve)))}"
        shares = tuple(one.n / sum(part.n for part in curve) for one in curve)
        x, y = tuple(one.confidence for one in curve), tuple(one.accuracy for one in curve)
        series.append(Series("reliability", name, x, y, strategy=strategy, texts=texts, shares=shares))
    if len(series) == 1:
        return None
    return Chart("probability of the answer", "share of answers that are right", tuple(series), log_allowed=False)
