"""The loads of the tasks at one moment, from counts that are kept as jobs move.

The estimated wait is that of a job that comes now and is taken last: the run times of the ready
jobs before it, by the workers that take them. It is 0 if a worker is free for it. If nothing of a
line begins or ends for longer than its jobs usually run, half of that time counts as their run
time. If no run time is known, UNKNOWN_S does.

The workers wanted are those that are busy, and as many more as work off the ready jobs of the task
within the target, each at its mean run time. That is at most one for each job, and no more than
``max_concurrent``.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from math import ceil

from headway.core.load import Load
from headway.core.local.active import Active
from headway.core.task import Task


class Loads:
    """The loads of all tasks, whose ready jobs should begin within ``target_s``."""

    def __init__(self, active: Active, target_s: float, now: float) -> None:
        self._active = active
        self._target_s = target_s
        self._now = now
        attempts = active.workers.attempts
        self._busy = Counter(attempt.name for attempt in attempts)
        # Without those that are being cancelled.
        self._running = Counter(attempt.name for attempt in attempts if attempt.job is not None)
        # By line: the estimated wait, as it is asked for.
        self._waits: dict[int, float] = {}

    def of(self, task: Task) -> Load:
        """Return the load of a task."""
        length, busy = self._active.queue.length(task.index), self._busy[task.name]
        return Load(
            length, self._oldest_s(task.index), self._wait_s(task.index), busy, self._wanted(task, length, busy)
        )

    def running(self, task: Task) -> int:
        """Return how many attempts at jobs of a task are under way."""
        return self._running[task.name]

    def together(self, tasks: list[Task]) -> Load:
        """Return the load of all tasks: the sums, the oldest job, and the longest wait."""
        loads = [self.of(task) for task in tasks]
        return Load(
            queue_length=sum(load.queue_length for load in loads),
            oldest_s=max((load.oldest_s for load in loads), default=0.0),
            wait_s=max((load.wait_s for load in loads), default=0.0),
            workers_busy=len(self._active.workers.attempts),
            workers_wanted=sum(load.workers_wanted for load in loads),
        )

    def _oldest_s(self, task: int) -> float:
        board, oldest = self._active.board, self._active.queue.oldest(task)
        if not oldest:
            return 0.0
        row = board.at(oldest)
        return max(self._now - (board.due[row] or board.submitted[row]), 0.0)

    def _wait_s(self, task: int) -> float:
        line = self._active.queue.line_numbers[task]
        if line not in self._waits:
            self._waits[line] = self._estimated(task, line)
        return self._waits[line]

    def _estimated(self, task: int, line: int) -> float:
        queue, runs = self._active.queue, self._runs
        its = queue.lines[line]
        length = sum(len(other) for other in queue.lines if other.number == line)
        free = queue.free(task, self._active.workers.count)
        own, all_count, all_s = length + 1 - free, *self._taken
        others, others_s = all_count, all_s
        if its.blocking is None:
            others, others_s = all_count - length, all_s - length * runs[line]
        if own + others <= 0:
            return 0.0
        at_once, shared = queue.at_once(task, self._active.workers.count)
        own_s = max(own, 0) * runs[line]
        return max(own_s / at_once, (own_s + others_s) / shared)

    @cached_property
    def _runs(self) -> list[float]:
        """The run time by which the jobs of each line count."""
        estimate, lines = self._active.estimate, self._active.queue.line_numbers
        oldest = [0.0] * (max(lines) + 1)
        for task, line in enumerate(lines):
            oldest[line] = max(oldest[line], self._oldest_s(task))
        return [estimate.run_s(line, waited, self._now) for line, waited in enumerate(oldest)]

    @cached_property
    def _taken(self) -> tuple[int, float]:
        """The ready jobs that workers may take now, and their run times together."""
        runs = self._runs
        lines = [(len(line), runs[line.number]) for line in self._active.queue.lines if line.blocking is None]
        return sum(count for count, _ in lines), sum(count * run for count, run in lines)

    def _wanted(self, task: Task, length: int, busy: int) -> int:
        seconds = length * self._active.estimate.mean_of_task(task.index)
        wanted = busy + min(length, ceil(seconds / self._target_s))
        return wanted if task.max_concurrent is None else min(wanted, max(task.max_concurrent, busy))
