"""When a run is done if several processes compute it: trainings first, then the longest, as `local` orders tasks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from triptych.grid.cells import TrainingSpec


def makespan(
    cells: Iterable[tuple[TrainingSpec | None, float]], trainings: Mapping[TrainingSpec, float], processes: int
) -> float:
    """Seconds until the last process is done.

    Args:
        cells: each one's training, which it waits for if that is among the trainings, and its seconds.
        trainings: seconds of each, its learning curve included.
        processes: how many compute at the same time.
    """
    waiting: dict[TrainingSpec, list[float]] = {spec: [] for spec in trainings}
    ready: list[tuple[float, float, list[float]]] = []
    for spec, seconds in cells:
        if spec in waiting:
            waiting[spec].append(seconds)
        else:
            ready.append((-seconds, seconds, []))
    ready += [(-float("inf"), seconds, waiting[spec]) for spec, seconds in trainings.items()]
    heapq.heapify(ready)
    free = [0.0] * max(1, processes)
    released: list[tuple[float, list[float]]] = []
    while ready or released:
        now = free[0] if ready else max(free[0], released[0][0])
        while released and released[0][0] <= now:
            for seconds in heapq.heappop(released)[1]:
                heapq.heappush(ready, (-seconds, seconds, []))
        if ready:
            _, seconds, following = heapq.heappop(ready)
            heapq.heapreplace(free, now + seconds)
            if following:
                heapq.heappush(released, (now + seconds, following))
    return max(free)
