"""The executor `local:N`: worker processes of this machine, each with the model, each computing one task at a time.

    main process     tasks ─►  worker   prepares the run, loads the model (its weights are mapped and shared)
                           ◄─  outcomes, progress, messages
                     writes cells' records, the lock, the report

The first worker loads the model alone; how it computes (dtype, token budget) goes into the lock and to the others.
A worker that dies is replaced and its task done again; if memory ran out, by one worker fewer.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from triptych.errors import Interrupted, TriptychError
from triptych.progress import Advance, Reporter
from triptych.runner.executors import messages
from triptych.runner.executors.base import Cancelled
from triptych.runner.executors.messages import Compute, Message, Setting
from triptych.runner.executors.processes import start_process
from triptych.runner.session import Session
from triptych.runner.tasks import OnCurve, Outcome, Task

_MOST_DEATHS = 3
"""Of workers at one task."""
_LOW_MEMORY = 0.05
"""Share of the machine's memory: with less left, a killed worker is taken to have been killed for memory."""
logger = logging.getLogger("triptych.run")  # the run's log, and not the terminal


@dataclass
class _Worker:
    number: int
    process: Any
    pipe: Any
    task: Task | None = None
    progress: dict[int, tuple[ExitStack, Advance]] = field(default_factory=dict)


class LocalWorkers:
    """Computes tasks in `count` worker processes.

    Args:
        count: at most so many processes.
        setting: what a worker prepares its run from.
        session: of the main process: holds, and records in the lock, how the run computes.
        reporter: shows the workers' progress and messages.
        on_curve: told of a training's new points.
        gpus: a visible device for each worker; empty on a CPU.
    """

    def __init__(
        self,
        count: int,
        setting: Setting,
        session: Session,
        reporter: Reporter,
        on_curve: OnCurve,
        gpus: Sequence[str] = (),
    ) -> None:
        self._count, self._setting, self._session = count, setting, session
        self._reporter, self._on_curve, self._gpus = reporter, on_curve, list(gpus)
        self._queue: list[Task] = []
        self._workers: list[_Worker] = []
        self._deaths: Counter[str] = Counter()
        self._said: set[str] = set()
        self._first_number = True
        self._killed_for_memory = _killed_for_memory()

    @property
    def processes(self) -> int:
        """See `Executor.processes`."""
        return self._count

    def submit(self, *tasks: Task) -> None:
        """See `Executor.submit`."""
        self._queue.extend(tasks)

    def results(self) -> Iterator[tuple[Task, Outcome]]:
        """See `Executor.results`."""
        while self._queue or any(worker.task for worker in self._workers):
            self._dispatch()
            yield from self._received()
        self.cancel()  # they are idle

    def cancel(self) -> Cancelled:
        """See `Executor.cancel`. Idle workers end at once; an interrupt meanwhile (a second Ctrl-C) kills them all."""
        self._queue.clear()
        cancelled = Cancelled()
        try:
            for worker in self._workers:
                if worker.task is not None and worker.process.is_alive():
                    worker.process.terminate()
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
            while self._workers:
                for worker in self._ready():
                    try:
                        message = worker.pipe.recv()
                    except Exception:  # the end of the pipe, or half a message
                        self._forget(worker)
                        continue
                    match message:
                        case messages.Done(outcome) if worker.task is not None:
                            cancelled.done.append((worker.task, outcome))
                        case messages.Failed(Interrupted() as error):
                            cancelled.stopped = str(error)
                        case messages.Said() | messages.Logged():
                            self._handle(worker, message)
        finally:
            for worker in list(self._workers):
                worker.process.kill()
                self._forget(worker)
        return cancelled

    def _dispatch(self) -> None:
        """Give each idle worker a task; start workers as long as there are more tasks than workers."""
        begun = bool(self._session.begun)
        idle = [worker for worker in self._workers if worker.task is None]
        while len(self._workers) < self._count and len(idle) < len(self._queue):
            idle.append(self._start())
        for worker in idle:
            if not self._queue or (not begun and any(one.task for one in self._workers)):
                return  # the first one to load the model decides how all of them compute
            worker.task = self._queue.pop(self._chosen())
            order = Compute(worker.task, self._session.runtime_choices, self._session.begun)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # dead: seen where messages are read
                worker.pipe.send(order)

    def _chosen(self) -> int:
        """The next task: trainings, one cheap cell so that a number is there soon, then the longest first."""
        costs = [task.cost for task in self._queue]
        if self._first_number and max(costs) < float("inf"):
            self._first_number = False
            return costs.index(min(costs))
        return costs.index(max(costs))

    def _start(self) -> _Worker:
        number = next(n for n in range(self._count) if n not in {worker.number for worker in self._workers})
        setting = self._setting
        if self._gpus:
            gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[number % len(self._gpus)]}
            setting = replace(setting, environment={**setting.environment, **gpu})
        from triptych.runner.executors.worker import work

        process, pipe = start_process(work, setting, name=f"triptych-worker-{number}")
        worker = _Worker(number, process, pipe)
        self._workers.append(worker)
        logger.info("worker %d is process %d", number, process.pid)
        return worker

    def _received(self) -> Iterator[tuple[Task, Outcome]]:
        """Wait for messages, and handle those that are there."""
        for worker in self._ready():
            try:
                message: Message = worker.pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if isinstance(message, messages.Done):
                self._session.note_memory(message.peak_memory)
                task, worker.task = worker.task, None
                assert task is not None
                self._dispatch()  # before what the main process does with the outcome
                yield task, message.outcome
            else:
                self._handle(worker, message)

    def _ready(self) -> list[_Worker]:
        """Wait until workers have messages, or are dead."""
        ready = connection.wait([worker.pipe for worker in self._workers])
        return [worker for worker in self._workers if worker.pipe in ready]

    def _handle(self, worker: _Worker, message: Message) -> None:
        match message:
            case messages.Failed(error, traceback):
                if not isinstance(error, KeyboardInterrupt | Interrupted):  # a signal to it alone: it is replaced
                    raise error from _WorkerTraceback(traceback)
            case messages.Begun(choices, begun):
                self._session.begin_as(choices, begun)
            case messages.CurveGrew(training, points):
                self._on_curve(training, points)
            case messages.Said(text, warning) if self._is_new(text):
                (self._reporter.warn if warning else self._reporter.info)(text)
            case messages.Logged(name, level, text) if self._is_new(text):
                logging.getLogger(name).log(level, "%s", text)
            case messages.TaskBegun(number, title, total, done, unit):
                stack = ExitStack()
                advance = stack.enter_context(self._reporter.task(title, total, done=done, unit=unit))
                worker.progress[number] = (stack, advance)
            case messages.TaskAdvanced(number, units):
                worker.progress[number][1](units)
            case messages.TaskEnded(number):
                worker.progress.pop(number)[0].close()

    def _is_new(self, text: str) -> bool:
        """Each worker says what concerns all of them, such as that it loads the model: shown once."""
        new = text not in self._said
        self._said.add(text)
        return new

    def _replace(self, worker: _Worker) -> None:
        """A worker is dead: its task goes back to the queue. The next dispatch starts another one.

        Raises:
            TriptychError: workers die again and again at this task.
        """
        task = self._forget(worker)
        self._said.clear()
        how = _ended(worker.process.exitcode)
        now, for_memory = _killed_for_memory(), False
        if worker.process.exitcode == -9:
            for_memory = _memory_is_low() if now is None else now > (self._killed_for_memory or 0)
        self._killed_for_memory = now
        at = f" at {task.name}" if task else ""
        what = f"worker process {worker.process.pid} {how}{at}"
        if for_memory:
            what += ", by the system, because memory ran out"
            if self._count > 1:
                self._count -= 1
        if task is None:
            self._deaths["idle"] += 1
        else:
            self._queue.insert(0, task)
            self._deaths[task.name] += 1
        if max(self._deaths.values()) >= _MOST_DEATHS:
            raise TriptychError(
                f"{what}, in the last of {_MOST_DEATHS} tries. What was finished is saved; the same command continues "
                "from there, and --on local:1 needs the least memory"
            )
        again = "it is done again" if task else "another one is started"
        fewer = f", with {self._count} process{'es' * (self._count > 1)} from here on" if for_memory else ""
        self._reporter.warn(f"{what}: {again}{fewer}")

    def _forget(self, worker: _Worker) -> Task | None:
        for stack, _ in worker.progress.values():
            stack.close()
        worker.progress.clear()
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)
        task, worker.task = worker.task, None
        return task


class _WorkerTraceback(Exception):
    """The traceback of a worker, for the log."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _ended(exitcode: int | None) -> str:
    return f"was killed (signal {-exitcode})" if exitcode and exitcode < 0 else f"ended (exit code {exitcode})"


def _killed_for_memory() -> int | None:
    """How many processes the system has killed for memory so far; None where it doesn't say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def _memory_is_low() -> bool:
    import psutil

    memory = psutil.virtual_memory()
    return bool(memory.available < _LOW_MEMORY * memory.total)
