"""When everything is done, if several processes compute it: the order of `runner.executors.local`, played through."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def makespan(
    cells: Sequence[float], trainings: Sequence[tuple[float, Sequence[float]]] = (), processes: int = 1
) -> float:
    """Seconds until the last process is done.

    Args:
        cells: seconds of each task that waits for nothing.
        trainings: seconds of each training, and of the cells that wait for it.
        processes: how many work at the same time.
    """
    free = [0.0] * max(1, processes)
    ready = [(-float("inf"), seconds, following) for seconds, following in trainings]
    ready += [(-seconds, seconds, ()) for seconds in cells]
    heapq.heapify(ready)
    waiting: list[tuple[float, Sequence[float]]] = []
    while ready or waiting:
        now = free[0]
        if not ready:
            now = max(now, waiting[0][0])
        while waiting and waiting[0][0] <= now:
            for seconds in heapq.heappop(waiting)[1]:
                heapq.heappush(ready, (-seconds, seconds, ()))
        if ready:
            _, seconds, following = heapq.heappop(ready)
            heapq.heapreplace(free, now + seconds)
            if following:
                heapq.heappush(waiting, (now + seconds, following))
    return max(free)
