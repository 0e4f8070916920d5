"""In which cells texts are written (`generate.cells`), and what is checked of that before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from triptych.config.generate import GenerateConfig
from triptych.errors import DataError
from triptych.grid.cells import CellSpec, candidates, grid, unknown_cell
from triptych.grid.rendered import MOST_ROWS, rows_that_fit, spread
from triptych.grid.rows import ExperimentRows
from triptych.runner.folder import FinishedCell

_NAMED = 5


def check_names(config: GenerateConfig, cells: Sequence[CellSpec]) -> None:
    """Check before any work that the cells are there.

    Raises:
        ConfigError: `generate.cells` names a cell that the grid doesn't have.
    """
    names = [cell.name for cell in cells]
    for name in () if isinstance(config.cells, str) else config.cells:
        if name not in names:
            what = "texts are asked for from a cell that the experiment doesn't have"
            raise unknown_cell(name, names, where="generate.cells", what=what)


def check_room(rows: ExperimentRows) -> None:
    """Check before any work that every prompt that may be written from leaves room for the new tokens.

    Raises:
        DataError: some don't, even without demonstrations.
    """
    config, limit = rows.config.generate, rows.limit
    if config is None:
        return
    search, named = rows.config.strategies.search, None if isinstance(config.cells, str) else config.cells
    cells = [cell for cell in grid(rows.config) if named is None or cell.name in named]
    tried = candidates(search) if search and named is None else []
    test, new = spread(rows.data.test[: config.rows], MOST_ROWS), config.max_new_tokens
    for prompt in dict.fromkeys(cell.prompt for cell in (*cells, *tried)):
        bare = partial(rows.prompt, CellSpec("zero_shot", prompt), reserve=new)
        _, _, too_long = rows_that_fit(test, bare, limit.tokens, reserve=new)
        if too_long:
            more = f" and {len(too_long) - _NAMED} more" if len(too_long) > _NAMED else ""
            raise DataError(
                "the new tokens leave no room for a prompt, even without demonstrations",
                where=f"generate.max_new_tokens, prompt `{prompt}`",
                found=f"{new} new tokens, and {len(too_long)} rows: {', '.join(too_long[:_NAMED])}{more}",
                expected=f"at most {limit.tokens} tokens, prompt and new tokens together",
                fix=replace(limit, kept_by="generate.max_new_tokens").how_to_fit(),
            )


def to_write(
    config: GenerateConfig, cells: Sequence[CellSpec], finished: Mapping[str, FinishedCell], first: str
) -> list[CellSpec]:
    """The cells to write texts of: `best` is the best prompt, the best demonstrations, and each training as trained.

    `first`: the metric by which they are the best, if it is not of texts.
    """
    if config.cells == "all":
        return list(cells)
    if config.cells != "best":
        return [cell for cell in cells if cell.name in config.cells]

    def badness(cell: CellSpec) -> tuple[float, float]:
        average = finished[cell.name].record.aggregate
        decides = average.metrics.get(first)
        return (0.0 if decides is None else -decides.value, average.ppl_mean)

    best: list[CellSpec] = []
    for strategy in ("zero_shot", "few_shot"):
        scored = [cell for cell in cells if cell.strategy == strategy and cell.name in finished]
        best += [min(scored, key=badness)] if scored else []
    trained: dict[str, CellSpec] = {}
    for cell in cells:
        if cell.training:
            trained.setdefault(cell.training.name, cell)  # the first is the training's own prompt and demonstrations
    return [*best, *trained.values()]
