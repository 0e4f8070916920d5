"""Whether two computations of the same run agree, cell by cell and training by training, and if not, what differs.

`exact` is bit by bit. `within tolerance` allows what another order of the same additions does: bounds for float32 and
for 16-bit dtypes, of a cell's largest difference of NLL per token and of the relative difference of its `ppl_mean`. An
adapter that was trained again carries such differences through every step, so its cells have wider ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from triptych.records import CellRecord, CurvePoint, ItemScore, RunRecord, TuneSummary
from triptych.reproduce.differences import Fact, shortened

Verdict = Literal["exact", "within tolerance", "different"]
_ORDER: tuple[Verdict, ...] = ("exact", "within tolerance", "different")
_NO_CAUSE = ("nothing that was recorded differs: the computation doesn't repeat itself here",)


class Tolerance(NamedTuple):
    """Bounds within which two numbers count as the same."""

    nll_per_token: float
    """Nats, of the row that differs most."""
    ppl: float
    """Relative, of the mean."""


@dataclass(frozen=True, slots=True)
class CellAgreement:
    """One cell then and now."""

    cell: str
    verdict: Verdict
    ppl_mean_then: float
    ppl_mean_now: float
    max_nll_per_token: float | None
    """Largest |difference| of a row's NLL per token, in nats; None where no row can be compared."""
    row: str | None
    """The row where it is."""
    causes: tuple[str, ...] = ()
    """What differs and bears on this cell; empty where it agrees."""


@dataclass(frozen=True, slots=True)
class TrainingAgreement:
    """One training then and now."""

    name: str
    verdict: Verdict
    same_adapter: bool
    max_ppl_curve: float | None
    """Largest relative |difference| of the curve's `ppl_mean`; None where there is no curve to compare."""
    causes: tuple[str, ...] = ()


def tolerance_of(dtype: str | None, *, trained_again: bool = False) -> Tolerance:
    """The bounds for a compute dtype. `trained_again`: under an adapter with other weights than then."""
    if dtype == "float32":
        return Tolerance(1e-2, 1e-3) if trained_again else Tolerance(1e-4, 1e-5)
    return Tolerance(0.25, 2e-2) if trained_again else Tolerance(0.1, 5e-3)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The least good of several; `exact` for none."""
    return max(verdicts, key=_ORDER.index, default="exact")


def agree(
    then: RunRecord,
    now: RunRecord,
    items_then: Mapping[str, Sequence[ItemScore]],
    items_now: Mapping[str, Sequence[ItemScore]],
    facts: Sequence[Fact],
    dtype: str | None,
) -> tuple[tuple[CellAgreement, ...], tuple[TrainingAgreement, ...]]:
    """Compare the cells and trainings that both have, with their rows by cell.

    `facts` is what is different now; `dtype` is the compute dtype, which decides the tolerance.
    """
    changed = [fact for fact in facts if fact.status == "changed"]
    again = {cell.cell: cell for cell in now.cells}
    cells = tuple(
        _cell(cell, again[cell.cell], items_then[cell.cell], items_now[cell.cell], changed, dtype)
        for cell in then.cells
        if cell.cell in again and cell.cell in items_then
    )
    names = {_name(summary): summary for summary in _trainings(now)}
    trainings = tuple(
        _training(summary, names[_name(summary)], then, now, changed, dtype)
        for summary in _trainings(then)
        if _name(summary) in names
    )
    return cells, trainings


def _cell(
    then: CellRecord,
    now: CellRecord,
    items_then: Sequence[ItemScore],
    items_now: Sequence[ItemScore],
    changed: Sequence[Fact],
    dtype: str | None,
) -> CellAgreement:
    here = {item.id: item for item in items_now}
    both = [(item, here[item.id]) for item in items_then if item.id in here]
    gaps = [(abs(a.nll_nats / a.n_tokens - b.nll_nats / b.n_tokens), a.id) for a, b in both]
    largest, row = max(gaps, default=(None, None))
    comparable = [item.id for item in items_then] == [item.id for item in items_now] and all(
        a.n_tokens == b.n_tokens for a, b in both
    )
    bounds = tolerance_of(dtype, trained_again=then.adapter_sha256 != now.adapter_sha256)
    a, b = then.aggregate.ppl_mean, now.aggregate.ppl_mean
    verdict: Verdict = "different"
    if comparable and largest is not None:
        if largest == 0 and then.aggregate == now.aggregate:
            verdict = "exact"
        elif largest <= bounds.nll_per_token and abs(a - b) <= bounds.ppl * a:
            verdict = "within tolerance"
    causes = () if verdict == "exact" else _causes(then, now, both, changed, comparable=comparable)
    return CellAgreement(then.cell, verdict, a, b, largest, row if largest else None, causes)


def _causes(
    then: CellRecord,
    now: CellRecord,
    both: Sequence[tuple[ItemScore, ItemScore]],
    changed: Sequence[Fact],
    *,
    comparable: bool,
) -> tuple[str, ...]:
    """What differs in the cell's own records first, then what changed around it and bears on it."""
    causes = []
    if then.prompt_sha256 != now.prompt_sha256:
        causes.append(f"prompt `{then.prompt}` {shortened(then.prompt_sha256)} -> {shortened(now.prompt_sha256)}")
    if not comparable:
        causes.append("other test rows, or other tokens in their outputs")
    if others := sum(a.demo_ids != b.demo_ids for a, b in both):
        causes.append(f"other demonstrations in {others} of {len(both)} rows")
    longer = sum(a.n_prompt_tokens != b.n_prompt_tokens for a, b in both)
    if longer and not causes:
        causes.append(f"prompts of another length in {longer} of {len(both)} rows")
    if then.adapter_sha256 != now.adapter_sha256:
        causes.append("another adapter came out of training")
    if then.rows_cached != now.rows_cached:
        causes.append(f"{then.rows_cached} rows were looked up then, {now.rows_cached} now: computed beside other rows")
    # `dev` rows only choose; a file of training rows bears on cells that show or were trained on them
    trained = then.k or then.adapter_sha256 is not None
    apart = [f.kind == "prompt" or (f.kind == "data" and f.name.startswith("train") and not trained) for f in changed]
    causes += [fact.sentence() for fact, no in zip(changed, apart, strict=True) if not no]
    return tuple(causes) or _NO_CAUSE


def _training(
    then: TuneSummary,
    now: TuneSummary,
    run_then: RunRecord,
    run_now: RunRecord,
    changed: Sequence[Fact],
    dtype: str | None,
) -> TrainingAgreement:
    curves = _curve_of(then, run_then), _curve_of(now, run_now)
    ppl, same_loss, whole = _curves(*curves)
    same, same_steps = then.adapter_sha256 == now.adapter_sha256, then.steps == now.steps
    close = whole and ppl is not None and ppl <= tolerance_of(dtype, trained_again=True).ppl
    if same and whole and same_loss and not ppl:
        return TrainingAgreement(_name(then), "exact", same, ppl)
    # without a curve its cells decide: older versions kept the curve of the first training alone
    verdict: Verdict = "within tolerance" if same_steps and (close or not curves[0]) else "different"
    bearing = [f for f in changed if f.kind != "prompt" or f.name == f"prompt `{then.prompt}`"]
    causes = tuple(f.sentence() for f in bearing if not f.name.startswith("dev"))
    return TrainingAgreement(_name(then), verdict, same, ppl, causes or _NO_CAUSE)


def _curve_of(training: TuneSummary, run: RunRecord) -> Sequence[CurvePoint]:
    first = _name(training) == _name(_trainings(run)[0])
    return run.curve if first else run.further_curves.get(training.name or "", ())


def _curves(then: Sequence[CurvePoint], now: Sequence[CurvePoint]) -> tuple[float | None, bool, bool]:
    """Largest relative difference of `ppl_mean`; whether the training losses are equal; whether the points are."""
    if not then:
        return None, True, True
    here = {(point.split, point.step): point for point in now}
    both = [(point, here[point.split, point.step]) for point in then if (point.split, point.step) in here]
    ppl = [abs(a.aggregate.ppl_mean - b.aggregate.ppl_mean) / a.aggregate.ppl_mean for a, b in both]
    same_loss = all(a.train_loss == b.train_loss for a, b in both if None not in (a.train_loss, b.train_loss))
    return max(ppl, default=None), same_loss, len(both) == len(then) == len(now)


def _trainings(record: RunRecord) -> tuple[TuneSummary, ...]:
    return record.trainings or ((record.tune,) if record.tune else ())


def _name(summary: TuneSummary) -> str:
    """A name made of its settings: runs of older versions recorded none."""
    seed = summary.seed if summary.seed is not None else summary.settings.get("seed")
    return f"{summary.prompt}" + (f"/k={summary.k}" if summary.k else "") + f"/train_seed={seed}"
