"""One cell's perplexity without an experiment, in memory: `triptych score`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from triptych.data import empty_outputs
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.cache import score_cache
from triptych.likelihood.score import Scorer, to_items
from triptych.progress import Reporter
from triptych.records import SCHEMA_VERSION, Aggregate
from triptych.runner.one_cell import CellRequest, OneCell, source_record


@dataclass(frozen=True, slots=True)
class CellScores:
    """What `scores.json` holds."""

    items: list[dict[str, Any]]
    """A row each: NLL in nats, counts, perplexity, what was shown."""
    aggregate: Aggregate
    provenance: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "schema_version": SCHEMA_VERSION,
            "items": self.items,
            "aggregate": self.aggregate.model_dump(mode="json"),
            "provenance": self.provenance,
        }


def score_cell(request: CellRequest, reporter: Reporter, *, cache: bool = True) -> CellScores:
    """Score the rows of a request; nothing is written but the scores' cache.

    Args:
        request: what to score.
        reporter: told of progress.
        cache: look up scores of the same tokens under the same weights first.

    Raises:
        InputError: anything in the request that can't be used.
        ScoringError: the model gives a row no finite likelihood.
    """
    request.check()
    cell = OneCell(request, reporter, need_output=True)
    if empty := empty_outputs(cell.rows):
        reporter.warn(empty)
    loaded = cell.load()
    rendered = cell.rendered()
    scorer = Scorer(loaded, cache=score_cache(loaded) if cache else None)
    with reporter.task("scoring", len(rendered)) as advance:
        nlls = scorer.score(rendered, advance)
    items = to_items(rendered, nlls)
    cell.warn_of_dropped(sum(item.n_demos_dropped for item in items))
    made_from = cell.made_from()
    shots = request.shots
    facts = {
        **made_from,
        "protocol": "hw3",
        "model": {**made_from["model"], "passes": "packed" if scorer.packed else "one row at a time"},
        "shots": shots.k,
        "seed": None,
        "draw": None,
        **shots.record(),
        "max_tokens": cell.limit.tokens,
        "rows_cached": sum(nll.cached for nll in nlls),
        "data": {role: source_record(one) for role, one in (("data", request.data), ("pool", shots.pool)) if one},
    }
    return CellScores([_line(item) for item in items], aggregate(items), facts)


def _line(item: Any) -> dict[str, Any]:
    return {**asdict(item), "demo_ids": list(item.demo_ids), "ppl": item.ppl}
