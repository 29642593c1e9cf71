"""Workers: ``count`` attempts that run at once.

``Jobs`` is the engine's side. This file knows when attempts begin and end, and nothing of states. A
worker is a place for an attempt. Each attempt has an asyncio task of its own, so it can do nothing
to the next one.

To interrupt an attempt is to cancel its task: the function gets CancelledError. A coroutine that
does not stop within GRACE_S is given up: its job is settled, and its worker takes the next one. A
thread cannot be stopped. After the end of its attempt it goes on as *lost*. It is counted until it
returns, and until then it counts against the limits of its task. An attempt releases its limits
once, however it ends.

Timeouts cost no timer each: one alarm is set for the earliest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from contextvars import Context as Variables
from math import inf

from headway.core.job import Job, Reason, State
from headway.core.processes.pool import Processes
from headway.core.running import hide_tasks
from headway.core.task import Lane
from headway.core.tasks.around import Arounds
from headway.core.tasks.result import Result
from headway.core.work.attempt import Attempt
from headway.core.work.jobs import Jobs
from headway.core.work.outcome import CANCELLED, Outcome, overtime
from headway.core.work.threads import Threads

log = logging.getLogger(__name__)

# Seconds a cancelled coroutine has to clean up.
GRACE_S = 1.0
# Seconds in which attempts are begun before the loop looks at its sockets: as many as it answers
# requests for. With less a flood of submissions outruns the workers, although jobs take no longer
# than their submissions, and each job then waits in a long queue, on cold caches.
TURN_S = 0.001


class Workers:
    """The pool of ``count`` workers that run ``jobs``. A larger result than ``result_bytes`` fails."""

    def __init__(
        self,
        count: int,
        result_bytes: int,
        jobs: Jobs,
        default_lane: Lane = Lane.THREAD,
        *,
        processes: Processes | None = None,
        arounds: Arounds | None = None,
    ) -> None:
        self.count = count
        # The context managers around each attempt, None if there are none.
        self.arounds = arounds or None
        # The lane of plain functions that do not name one.
        self.default_lane = default_lane
        # None if no task runs in a process.
        self.processes = processes
        self.result_bytes = result_bytes
        self.jobs = jobs
        self.loop: asyncio.AbstractEventLoop
        # The attempts that run, each in its place.
        self.attempts: set[Attempt] = set()
        # Attempts that did not stop and lost their place to another.
        self.replacements = 0
        self.threads = Threads()
        # Whether a call of ``_work`` is coming, such as that of ``start``.
        self._woken = True
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf
        self.stopping = False

    @property
    def idle(self) -> int:
        """Workers with nothing to do."""
        return self.count - len(self.attempts)

    async def begin(self) -> None:
        """Start the worker processes before any job runs. Raises ConfigError if none can start."""
        if self.processes is not None:
            await self.processes.begin()

    def start(self) -> None:
        """Begin to claim jobs, on the running loop."""
        if self.processes is not None:
            self.processes.start()
        # Kept, because to ask for it is a system call (getpid) in CPython 3.11.
        self.loop = asyncio.get_running_loop()
        hide_tasks(self.loop)
        self._woken = False
        self.wake()

    async def stop(self) -> None:
        """End the attempts: their functions are cancelled, and their jobs not settled. Threads are not waited for."""
        self.stopping = True
        if self._alarm is not None:
            self._alarm.cancel()
        for attempt in self.attempts:
            attempt.interrupt(CANCELLED)
        tasks = {attempt.task for attempt in self.attempts if attempt.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)
        if self.processes is not None:
            await self.processes.stop()
        self.threads.stop()

    def wake(self) -> None:
        """Have jobs claimed in the next turn of the loop, as many as there are places for."""
        if not self._woken and len(self.attempts) < self.count and not self.stopping:
            self._woken = True
            self.loop.call_soon(self._work)

    def cancel(self, job: Job) -> None:
        """Stop the attempt at ``job``. The caller settles it."""
        for attempt in self.attempts:
            if attempt.job is job:
                attempt.job = None
                attempt.interrupt(CANCELLED)
                self._set_deadline(attempt, time.monotonic() + GRACE_S)
                self._give_back(attempt, job)
                self.wake()
                return

    def holder(self, loop: asyncio.AbstractEventLoop) -> str | None:
        """Name the task that ``loop`` is in right now, or None if it is in none. Any thread may call this."""
        current = asyncio.current_task(loop)
        for attempt in list(self.attempts):
            if attempt.task is current and attempt.job is not None:
                return f"task {attempt.job.task.name}"
        return None

    async def in_process(self, attempt: Attempt, job: Job) -> Result | None:
        """Run the job's task in a worker process. The process is killed if this is cancelled."""
        if self.processes is None or attempt.context is None:
            raise RuntimeError("no task runs in a process")

        # Its time begins once it has a process.
        self._set_deadline(attempt, job.deadline)
        context = attempt.context
        return await self.processes.run(
            job.task.name,
            job.payload,
            context.id,
            context.attempt,
            report=context.progress,
            write=lambda text: self.jobs.write(job.sequence, context.attempt, text),
            begun=lambda: self.begun(attempt, job),
            media_type=job.terms.media_type,
            traceparent=context.traceparent,
        )

    # From the beginning of an attempt to its end.

    def _work(self) -> None:
        """Begin attempts while there are places and jobs."""
        self._woken = False
        now = time.monotonic()
        turn_ends = now + TURN_S
        while len(self.attempts) < self.count and not self.stopping:
            if now > turn_ends:
                self.wake()
                return
            job = self.jobs.claim(now)
            if job is None:
                return
            attempt = Attempt(self, job)
            self.attempts.add(attempt)
            attempt.start(job)
            now = time.monotonic()

    def begun(self, attempt: Attempt, job: Job) -> None:
        """Start the time of the attempt: its function is about to be called."""
        deadline = time.monotonic() + job.terms.timeout_s
        self._set_deadline(attempt, deadline if deadline < job.deadline else job.deadline)

    def over(self, attempt: Attempt, outcome: Outcome) -> None:
        """Note that the function has returned, or that its thread was given up."""
        self.attempts.discard(attempt)
        if self.stopping:
            return
        if attempt.job is not None:
            self._end(attempt, attempt.interrupted_by or outcome)
        if not self._woken:
            self.wake()

    def _give_up(self, attempt: Attempt) -> None:
        """Take the place of an attempt whose coroutine has not stopped."""
        if attempt not in self.attempts:
            return
        self.attempts.discard(attempt)
        self.replacements += 1
        log.error("task %s ignored its cancellation and was given up", attempt.name)
        if attempt.interrupted_by is not None:
            self._end(attempt, attempt.interrupted_by)
        self.wake()

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle the attempt's job, unless that was done."""
        job, now = attempt.job, time.monotonic()
        if job is None:
            return
        attempt.job = None
        self._give_back(attempt, job)
        try:
            self.jobs.settle(job, outcome, now)
        except Exception:
            log.exception("an attempt at task %s could not be settled", job.task.name)
            with suppress(Exception):
                self.jobs.settle(
                    job, Outcome(State.FAILED, Reason.CRASHED, error="the attempt could not be settled"), now
                )

    def _give_back(self, attempt: Attempt, job: Job) -> None:
        """Release the limits of the attempt: now, or when a thread that goes on has returned.

        Called once, by the function that takes the job from the attempt.
        """
        if attempt.call is not None and attempt.call.runs:
            self.threads.lose(attempt.call, lambda: self._released(job))
        else:
            self.jobs.release(job)

    def _released(self, job: Job) -> None:
        self.jobs.release(job)
        self.wake()

    # Time.

    def _set_deadline(self, attempt: Attempt, deadline: float) -> None:
        """Look at ``attempt`` when ``deadline``, of time.monotonic, has passed."""
        attempt.deadline = deadline
        if deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = deadline
            delay = max(deadline - time.monotonic(), 0.0)
            # Not in the context of a job, which the timer would keep.
            self._alarm = self.loop.call_later(delay, self._ring_alarm, context=Variables())

    def _ring_alarm(self) -> None:
        now = time.monotonic()
        self._alarm, self._alarm_at = None, inf
        for attempt in list(self.attempts):
            if attempt.deadline > now:
                continue
            if attempt.interrupted_by is None:
                attempt.deadline = now + GRACE_S
                attempt.interrupt(overtime(attempt.job, now))
            else:
                # After the callbacks that are due. If the loop was late, one of them may be the
                # cancellation itself.
                attempt.deadline = inf
                self.loop.call_soon(self._give_up, attempt)
        soonest = min(self.attempts, key=lambda attempt: attempt.deadline, default=None)
        if soonest is not None and soonest.deadline < inf:
            self._set_deadline(soonest, soonest.deadline)
