"""The switches of tasks: those that are held, whose jobs wait, and those that are closed to new jobs.

``Changes`` keeps the switches and lets them take effect here. One timer returns them at their time.
A task that the settings no longer declare keeps its switches, which then have no effect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import inf

from headway.core.hold import NO_HOLD, TaskHold
from headway.core.queue.queue import Queue
from headway.core.slices import in_slices
from headway.core.task import Task

log = logging.getLogger(__name__)

# The timer looks at the wall clock at least so often, since that may be set.
LOOK_S = 60.0


class Holds:
    """The switches of ``tasks``. ``wake`` has the workers look for jobs."""

    def __init__(self, queue: Queue, tasks: Mapping[str, Task], wake: Callable[[], object]) -> None:
        self._queue = queue
        self._tasks = tasks
        self._wake = wake
        # All switches that differ from those of a task that nobody touched.
        self._by_name: dict[str, TaskHold] = {}
        # By the index of the task: those that are held, and those that are closed.
        self.held: dict[int, TaskHold] = {}
        self.closed: dict[int, TaskHold] = {}
        # Called with the index of a task whose switches have changed. What it returns is done in slices.
        self.on_change: Callable[[int], Iterable[object]] = lambda _: ()
        # Called with the name of a task whose switches their time has returned: they stay so, if the clock
        # is set back, too.
        self.on_over: Callable[[str], object] = id
        # Those of before that are over.
        self._over: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._started = False

    def of(self, task: str) -> TaskHold:
        """Return the present switches of a task."""
        return self._by_name.get(task, NO_HOLD).at(time.time())

    def kept(self) -> dict[str, TaskHold]:
        """Return all switches by task, for the next process."""
        return self._by_name

    def restore(self, kept: Mapping[str, TaskHold]) -> None:
        """Go on with the switches of the previous process. Call this before any job waits."""
        now = time.time()
        for task, hold in kept.items():
            if hold.at(now) != NO_HOLD:
                self._set(task, hold)
            elif hold != NO_HOLD:
                self._over.append(task)

    def start(self) -> None:
        """Return switches at their time from now on, on the running loop."""
        self._started = True
        over, self._over = self._over, []
        for task in over:
            self.on_over(task)
        self._set_timer()

    def stop(self) -> None:
        """Leave the switches as they are."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()

    def show(self, task: str, hold: TaskHold) -> None:
        """Let the switches of a task take effect."""
        log.info("task %s: %s", task, hold)
        self._set(task, hold)
        if self._started:
            self._set_timer()

    def lasting(self, until: float) -> Collection[int]:
        """Return the tasks that are held at ``until``, of time.time, if nobody returns their switches."""
        return [task for task, hold in self.held.items() if hold.at(until) != NO_HOLD]

    def _set(self, name: str, hold: TaskHold) -> None:
        if hold == NO_HOLD:
            self._by_name.pop(name, None)
        else:
            self._by_name[name] = hold
        task = self._tasks.get(name)
        if task is None:
            return
        _put(self.closed, task.index, hold, hold.intake == "closed")
        was_held = task.index in self.held
        _put(self.held, task.index, hold, hold.dispatch == "hold")
        begins = hold.dispatch == "hold" and not was_held
        if begins:
            self._queue.hold(task.index)
        elif was_held and hold.dispatch == "run":
            self._queue.end_hold(task.index)
            self._wake()
        in_slices(self._follow(task.index, begins))

    def _follow(self, task: int, begins: bool) -> Iterator[object]:
        """Do what takes time for many jobs."""
        if begins:
            yield from self._queue.moves(task)
            if self._started:
                # Nothing was claimed meanwhile.
                self._wake()
        yield from self.on_change(task)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        soonest = min((inf if hold.until is None else hold.until for hold in self._by_name.values()), default=inf)
        if soonest < inf:
            delay = min(max(soonest - time.time(), 0.0), LOOK_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        now = time.time()
        for task, hold in [*self._by_name.items()]:
            if hold.at(now) == NO_HOLD:
                log.info("task %s: its hold has ended at the time of its until", task)
                self._set(task, NO_HOLD)
                self.on_over(task)
        self._set_timer()


def _put(holds: dict[int, TaskHold], task: int, hold: TaskHold, there: bool) -> None:
    if there:
        holds[task] = hold
    else:
        holds.pop(task, None)
