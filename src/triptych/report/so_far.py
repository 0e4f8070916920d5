"""What a report says of a run that goes on: how far it is, when it ends, what is not scored yet."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from triptych.records.schema import Strategy
from triptych.report.groups import STRATEGIES, STRATEGY_NAMES, capital

REFRESH_SECONDS = 15
"""How often the open page loads itself again."""


def _now() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


@dataclass(frozen=True, slots=True)
class SoFar:
    """How far a run is."""

    cells: Mapping[Strategy, tuple[int, int]]
    """Strategy -> cells scored, cells of the grid; only strategies that the grid has."""
    trainings: tuple[int, int] = (0, 0)
    """Done, of all."""
    steps: tuple[tuple[int, int], ...] = ()
    """Step and last step of each training that goes on."""
    seconds_left: float | None = None
    """None while nothing is known that it could be estimated from."""
    share: float = 0.0
    """Of the whole work, 0 to 1."""
    not_counted: tuple[str, ...] = ()
    """Work that `seconds_left` leaves out: `the search`."""
    refresh_seconds: int = REFRESH_SECONDS
    written: datetime.datetime = field(default_factory=_now)

    @property
    def n_cells(self) -> tuple[int, int]:
        """Scored, of all."""
        return sum(done for done, _ in self.cells.values()), sum(of for _, of in self.cells.values())

    @property
    def done(self) -> str:
        """`5 of 15 cells scored, 0 of 1 trainings done (step 7 of 18).`"""
        scored, cells = self.n_cells
        parts = [f"{scored:,} of {cells:,} cells scored"]
        if (trainings := self.trainings[1]) > 0:
            at = "; ".join(f"step {step:,} of {last:,}" for step, last in self.steps)
            parts.append(f"{self.trainings[0]:,} of {trainings:,} trainings done" + (f" ({at})" if at else ""))
        return f"{', '.join(parts)}."

    @property
    def by_strategy(self) -> str:
        """`zero-shot 2 of 2, few-shot 3 of 12, QLoRA 0 of 1`: which cells a mean over seeds may still lack."""
        return ", ".join(
            f"{STRATEGY_NAMES[strategy]} {done:,} of {of:,}" for strategy, (done, of) in self.cells.items() if of
        )

    @property
    def ends(self) -> str:
        """`About 4 minutes left, until about 14:32.`"""
        if self.seconds_left is None:
            return "How long the rest takes is not known yet."
        end = self.written + datetime.timedelta(seconds=self.seconds_left)
        at = f"{end:%H:%M}" if end.date() == self.written.date() else f"{end:%Y-%m-%d %H:%M}"
        less = f", not counting {' and '.join(self.not_counted)}" if self.not_counted else ""
        return f"{capital(roughly(self.seconds_left))} left, until about {at}{less}."

    def missing(self, scored: Collection[Strategy]) -> str:
        """`Few-shot isn't scored yet, and QLoRA isn't trained yet.`, and what the run doesn't have; may be empty."""
        names = {strategy: STRATEGY_NAMES[strategy] for strategy in STRATEGIES if strategy not in scored}
        planned = [strategy for strategy in names if self.cells.get(strategy, (0, 0))[1]]
        yet = [
            f"{names[s]} isn't {'trained' if s == 'qlora' and not self.trainings[0] else 'scored'} yet" for s in planned
        ]
        sentences = [f"{capital(', and '.join(yet))}."] if yet else []
        never = [name for strategy, name in names.items() if strategy not in planned]
        return " ".join([*sentences, *([f"Not in this run: {' and '.join(never)}."] if never else [])])


def roughly(seconds: float) -> str:
    """`less than a minute`, `about 4 minutes`, `about 2 h 10 min`: no more exact than an estimate is."""
    minutes = round(seconds / 60)
    if seconds < 45:
        return "less than a minute"
    if minutes <= 90:
        return f"about {max(1, minutes)} minute{'s' if minutes > 1 else ''}"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    return f"about {hours} h {rest:02} min" if hours < 10 else f"about {round(minutes / 60)} hours"
