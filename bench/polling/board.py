"""What the server of the model knows: the jobs, the line of those that wait, and its rule of when to ask again."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from headway.core.retry_after.estimate import SUCCESSOR_S, Estimate
from headway.core.retry_after.generation import Generation
from headway.core.retry_after.runs import RUNS

from bench.polling.agenda import Items, Times

# How often a job reports its progress, evenly over its run: as ``sleep`` in examples/tasks.py.
REPORTS = 4


class Promises:
    """What the server's own rule promises, for many jobs at once; ``now`` never goes back by more than a step."""

    def __init__(self, workers: int, pace: float) -> None:
        self._workers = workers
        self._rule = Estimate(workers, 1, pace)
        self._rule.first = Generation(workers)

    def learn(self, ran: Sequence[float], now: float) -> None:
        """Begin with run times of an earlier server."""
        self._rule.learn([(0, seconds) for seconds in ran], now)

    def observe(self, jobs: Items, ran: Times, now: Times) -> None:
        """Learn how long jobs ran that ended at ``now``; of those of one step, from so many as the rule keeps.

        A job may stand for others, whose run times follow on its own.
        """
        alike = len(ran) // max(len(jobs), 1)
        # The first jobs are learnt from one by one, and those for which they stand are not among them.
        each = -(-len(ran) // RUNS) if self._rule.first is None else alike
        rows = zip(ran[::each].tolist(), now[::each].tolist(), np.repeat(jobs + 1, alike)[::each].tolist(), strict=True)
        for seconds, moment, number in rows:
            self._rule.observe(0, seconds, moment, number)

    def began(self, jobs: Items, now: Times) -> None:
        """Jobs have begun."""
        if self._rule.first is None:
            self._rule.began(0, float(now[-1]))
            return
        for job, moment in zip(jobs.tolist(), now.tolist(), strict=True):
            self._rule.began(0, moment, job + 1)

    def expect_end(self, now: float) -> None:
        """The server is told to end; as it keeps its jobs, it may be gone at once."""
        self._rule.expect_end(now)

    def refused(self, now: Times) -> Times:
        """Return seconds after which those come again whose jobs are not taken at ``now`` because the server drains."""
        later = (self._rule.later(SUCCESSOR_S, moment) for moment in now.tolist())
        return np.fromiter(later, np.float64, len(now))

    def told(self, board: Board, idle: int, watches: Items, now: Times) -> Times:
        """Return seconds after which to ask for watches that are not over, as the server says it at ``now``.

        For a batch: when the last of its jobs that are not over is expected to be.
        """
        if len(now) and self._rule.looks_at_first(float(now[-1])):
            self._look_at_first(board, float(now[-1]))
        jobs = watches[:, None] * board.watched + np.arange(board.watched)
        rows, columns = np.nonzero(board.ended[jobs] > now[:, None])
        together = np.bincount(rows, minlength=len(watches))[rows]
        until = np.zeros(jobs.shape)
        until[rows, columns] = self._until(board, idle, jobs[rows, columns], together, now[rows])
        promised = zip(until.max(axis=1).tolist(), now.tolist(), strict=True)
        return np.fromiter((self._rule.promised_ms(*one) for one in promised), np.float64, len(watches)) / 1000

    def _look_at_first(self, board: Board, now: float) -> None:
        """Tell the rule what the first jobs report."""
        first = self._rule.first
        assert first is not None
        jobs = np.array(first.running, np.int64) - 1
        reported = jobs[now - board.started[jobs] >= board.takes[jobs] / REPORTS]
        self._rule.foresee(dict(zip((reported + 1).tolist(), board.takes[reported].tolist(), strict=True)), now)

    def _until(self, board: Board, idle: int, jobs: Items, together: Items, now: Times) -> Times:
        """Return seconds after which to ask for jobs that are not over; ``together`` of them are to be over."""
        elapsed, ends_in = now - board.started[jobs], board.takes[jobs] - now + board.started[jobs]
        # What a job reports says exactly when it ends, from the first report that tells something.
        reported = elapsed >= board.takes[jobs] / REPORTS
        turns = np.maximum(board.ticket[jobs] - board.head, 0) + 1 - idle
        waits = elapsed < 0
        queued = (turns, now - board.submitted[jobs], together, now)
        until = np.zeros(len(jobs))
        until[waits] = list(map(self._until_queued, *(column[waits].tolist() for column in queued)))
        runs = (elapsed, ends_in, reported)
        until[~waits] = list(map(self._until_running, *(column[~waits].tolist() for column in runs)))
        return until

    def _until_queued(self, turns: int, waited: float, together: int, now: float) -> float:
        return self._rule.for_queued(turns, self._workers, waited, 0, now, together=together)

    def _until_running(self, elapsed: float, ends_in: float, reported: bool) -> float:
        return self._rule.for_running(elapsed, ends_in if reported else None, 0)


class Board:
    """All jobs, and the line of those that wait; ``watched`` jobs in a row are one thing to ask for."""

    def __init__(self, jobs: int, watched: int) -> None:
        self.watched = watched
        self.submitted = np.zeros(jobs)
        # inf: not yet.
        self.started = np.full(jobs, inf)
        self.ended = np.full(jobs, inf)
        # How long each runs.
        self.takes = np.zeros(jobs)
        self.ticket = np.zeros(jobs, np.int64)
        # The job of each ticket that is not served yet; tickets are served in order.
        self._line = np.zeros(jobs, np.int64)
        self.head = self.tail = 0

    def submit(self, jobs: Items, now: Times) -> None:
        """Put jobs at the end of the line, in order."""
        self.submitted[jobs] = now
        self.started[jobs] = self.ended[jobs] = inf
        self.ticket[jobs] = np.arange(self.tail, self.tail + len(jobs))
        self._line[self.ticket[jobs] % len(self._line)] = jobs
        self.tail += len(jobs)

    def claim(self, most: int) -> Items:
        """Take up to ``most`` jobs from the line."""
        tickets = np.arange(self.head, min(self.head + most, self.tail))
        self.head += len(tickets)
        return self._line[tickets % len(self._line)]

    def over(self, watches: Items) -> Times:
        """When all jobs of each watch were over; inf where they are not."""
        over: Times = self.ended.reshape(-1, self.watched)[watches].max(axis=1)
        return over
