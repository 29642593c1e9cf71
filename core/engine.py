"""The engine: what the protocol knows of core, but for errors and config.

``submit`` gives a job its row and its place in the queue; workers ``_claim`` it and ``_settle`` what came of it;
``peek`` reads its status; ``cancel`` ends it early. All of it runs on one event loop and none of it awaits, so each
call sees and leaves the board whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from headway.core import ids
from headway.core.board import ATTEMPT_MAX, ATTEMPT_SHIFT, PROGRESS_NONE, PROGRESS_SHIFT, STATE_MASK, Board
from headway.core.config import Config
from headway.core.context import Context
from headway.core.errors import DrainingError, QueueFullError, UnknownTaskError
from headway.core.estimate import Estimate
from headway.core.job import Job, Reason, State, Status, Submission
from headway.core.queue import Queue
from headway.core.registry import Registry
from headway.core.results import Result, Results
from headway.core.stats import Stats
from headway.core.workers import Outcome, Workers

log = logging.getLogger(__name__)

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)

# Seconds between two rounds of the chores.
CHORES_S = 1.0


class Engine:
    """Jobs in memory: the board and all that acts on it."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self.config = config
        self.registry = registry
        self.ids = ids.Ids()
        self.board = Board(config.retention.jobs, config.retention.seconds, config.queue.size + config.workers)
        self.queue = Queue(self.board, config.queue.size, config.workers)
        self.results = Results(self.board, config.results.max_bytes)
        self.estimate = Estimate(config.workers, len(registry.tasks))
        self.stats = Stats()
        # The active jobs by sequence number; all that is kept of the others is their row and their result.
        self.jobs: dict[int, Job] = {}
        self.workers = Workers(
            config.workers,
            config.limits.lost_threads,
            config.results.max_result_bytes,
            self._claim,
            self._settle,
            self._context,
        )
        # Done every CHORES_S, each with its name for the log.
        self.chores: list[tuple[str, Callable[[float], object]]] = [("forget results", self.results.trim)]
        self.draining = False
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._chores_timer: asyncio.TimerHandle | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows and rings take once all were used, whatever the traffic."""
        return self.board.size_bytes + self.queue.size_bytes

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here, or None where they are."""
        if self.draining:
            return "draining"
        if self.workers.lost_threads > self.config.limits.lost_threads:
            return f"{self.workers.lost_threads} threads are lost to tasks that do not return; restart the server"
        return None

    @property
    def oldest_queued(self) -> float | None:
        """When the job that has been ready for longest was submitted, of time.monotonic."""
        sequence = self.queue.oldest()
        return self.board.submitted[sequence % self.board.rows] if sequence else None

    def start(self) -> None:
        """Start the workers and the chores on the running loop."""
        self.workers.start()
        self._do_chores()

    def submit(self, submission: Submission) -> Status:
        """Take a job.

        Raises UnknownTaskError, QueueFullError or DrainingError, in which case nothing was changed.
        """
        task = self.registry.by_name.get(submission.task)
        if task is None:
            known = ", ".join(sorted(self.registry.by_name)) or "none"
            raise UnknownTaskError([("task", f"{submission.task!r} is not one of: {known}")])
        self.check_room()
        now = time.monotonic()
        delayed = submission.delay > 0
        state = State.SCHEDULED if delayed else State.QUEUED
        sequence = self.board.open(state, self.ids.tag, task.index, submission.priority, now)
        retries = task.retries if submission.retries is None else submission.retries
        self.jobs[sequence] = Job(
            sequence,
            task,
            bytes(submission.payload),
            submission.timeout or task.timeout_s or self.config.jobs.timeout,
            self.config.jobs.retries if retries is None else retries,
        )
        if delayed:
            self._delay(sequence, now + submission.delay)
        else:
            self.queue.push(sequence)
            self.workers.wake()
        return self._status(sequence % self.board.rows, sequence, now)

    def check_room(self) -> None:
        """Raise DrainingError or QueueFullError where no job would be taken now."""
        if self.draining:
            raise DrainingError
        if self.queue.full:
            raise QueueFullError(self.queue.size, self.estimate.for_place())

    def peek(self, job_id: bytes) -> Status | None:
        """Return what is known of a job at once; None where it was never issued.

        A job that has left the board, by count or by time, is EXPIRED.
        """
        number = ids.read(job_id)
        sequence, tag = number >> ids.TAG_BITS, number & ids.TAG_MASK
        board = self.board
        row = board.row(sequence)
        if row < 0 or board.tag[row] != tag:
            return self._left_the_board(sequence, tag)
        now = time.monotonic()
        if board.live[row] & STATE_MASK >= SUCCEEDED and not board.kept(row, now):
            return self._left_the_board(sequence, tag)
        return self._status(row, sequence, now)

    def result(self, status: Status) -> Result | None:
        """Return what is kept of a job that is over; None where nothing is: see ``has_result``."""
        return self.results.get(status.sequence)

    def has_result(self, status: Status) -> bool:
        """Whether a job that succeeded returned something; it may have been given up since."""
        return bool(self.board.has_result[status.sequence % self.board.rows])

    def cancel(self, status: Status) -> None:
        """End a job that waits or runs; forget the result of one that is over."""
        sequence = status.sequence
        if status.state >= State.SUCCEEDED:
            self.results.forget(sequence)
            self.board.has_result[sequence % self.board.rows] = 1
            return
        job = self.jobs[sequence]
        if status.state == State.RUNNING:
            self.workers.cancel(job)
        else:
            self.queue.remove(sequence)
        self._end(job, State.CANCELLED, time.monotonic())

    async def drain(self, timeout_s: float) -> int:
        """Take no more jobs, wait until those taken are over; return how many are not after ``timeout_s``."""
        self.draining = True
        if self.jobs:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_s)
        return len(self.jobs)

    async def stop(self) -> None:
        """End workers, timers and chores."""
        for timer in (self._timer, self._chores_timer):
            if timer is not None:
                timer.cancel()
        await self.workers.stop()

    def _claim(self) -> Job | None:
        sequence = self.queue.claim()
        if not sequence:
            return None
        now = time.monotonic()
        row = sequence % self.board.rows
        self.stats.wait.add(now - (self.board.due[row] or self.board.submitted[row]))
        self.board.move(sequence, State.RUNNING, now)
        return self.jobs[sequence]

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """An attempt is over: try again, or end the job."""
        now = time.monotonic()
        board, row = self.board, job.sequence % self.board.rows
        ran = now - board.started[row]
        self.stats.run.add(ran)
        self.estimate.observe(job.task.index, ran)
        attempt = board.attempt(row)
        if outcome.state is State.FAILED:
            if attempt <= job.retries:
                board.move(job.sequence, State.RETRYING, now)
                self._delay(job.sequence, now + self._backoff(attempt))
                self.stats.retries += 1
                return
            board.reason[row] = outcome.reason
            self.results.put(job.sequence, Result(outcome.error))
        elif outcome.result is not None:
            board.has_result[row] = 1
            self.results.put(job.sequence, outcome.result)
        self._end(job, outcome.state, now)

    def _end(self, job: Job, state: State, now: float) -> None:
        self.board.move(job.sequence, state, now)
        del self.jobs[job.sequence]
        if self.draining and not self.jobs:
            self._idle.set()

    def _backoff(self, attempt: int) -> float:
        """Seconds before the attempt after ``attempt``: doubling, up to a bound, less up to half at random."""
        jobs = self.config.jobs
        return min(jobs.backoff * 2.0 ** min(attempt - 1, 60), jobs.backoff_max) * random.uniform(0.5, 1.0)  # noqa: S311

    def _delay(self, sequence: int, due: float) -> None:
        self.queue.delay(sequence, due)
        self._set_timer()

    def _set_timer(self) -> None:
        """Have ``_ready_delayed`` called when the next delayed job is due."""
        due = self.queue.next_due
        if due is None or due >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = max(due - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._ready_delayed)

    def _ready_delayed(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = time.monotonic()
        for sequence in self.queue.take_due(now):
            self.board.move(sequence, State.QUEUED, now)
            self.queue.push(sequence)
            self.workers.wake()
        self._set_timer()

    def _do_chores(self) -> None:
        now = time.monotonic()
        for name, chore in self.chores:
            try:
                chore(now)
            except Exception:
                log.exception("the chore %r failed; it is tried again in %g s", name, CHORES_S)
        self._chores_timer = asyncio.get_running_loop().call_later(CHORES_S, self._do_chores)

    def _context(self, job: Job) -> Context:
        board, row, loop = self.board, job.sequence % self.board.rows, asyncio.get_running_loop()
        attempt = board.attempt(row)

        def report(percent: int) -> None:
            # The board has one writer, the loop.
            loop.call_soon_threadsafe(board.report, job.sequence, attempt, percent)

        return Context(ids.write(job.sequence, board.tag[row]).decode(), attempt, report)

    def _left_the_board(self, sequence: int, tag: int) -> Status | None:
        if not sequence or self.ids.tag(sequence) != tag:
            return None
        return Status(State.EXPIRED, sequence, tag, "", 0, None, 0, 0, 0.0, 0.0, 0.0, Reason.NONE)

    def _status(self, row: int, sequence: int, now: float) -> Status:
        board = self.board
        # Once: each reading of a column makes an int, and this is done for every poll.
        word, task, tag = board.live[row], board.task[row], board.tag[row]
        state = word & STATE_MASK
        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
        ahead = retry_after_ms = 0
        if state == QUEUED:
            ahead = self.queue.ahead(sequence)
            retry_after_ms = self.estimate.for_queued(ahead, task, tag)
        elif state == RUNNING:
            retry_after_ms = self.estimate.for_running(now - board.started[row], task, tag)
        elif state < SUCCEEDED:
            ahead = self.queue.ahead(sequence)
            retry_after_ms = self.estimate.for_delayed(board.due[row] - now, task, tag)
        return Status(
            state,
            sequence,
            tag,
            self.registry.tasks[task].name,
            word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            None if progress == PROGRESS_NONE else progress,
            ahead,
            retry_after_ms,
            board.submitted[row],
            board.started[row],
            board.ended[row],
            board.reason[row],
        )
