"""Workers: asyncio tasks that claim a job, run it, and settle what came of it.

``claim`` and ``settle`` belong to the engine; this file knows how to run a function and nothing of states. A
coroutine function is awaited in the worker's own task, so a job costs no task of its own; a plain function runs in
a thread while the worker waits.

A worker is interrupted by cancelling its task: the function gets CancelledError, the worker outlives it. A function
that does not stop within GRACE_S has its worker taken away: the job is settled, the worker is retired with it and a
new one takes its place. The same holds for a worker that dies of an error. A thread cannot be stopped; one whose
attempt is over goes on as *lost*, counted until it returns.

Deadlines cost no timer each: there is one alarm, set for the earliest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from math import inf

import msgspec
from headway.core.context import Context
from headway.core.job import Job, Reason, State
from headway.core.outcome import CANCELLED, NULL, SUCCEEDED, Outcome, failed, overtime
from headway.core.processes import Processes
from headway.core.registry import Lane
from headway.core.results import Result, encode
from headway.core.threads import Threads

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder().decode

# Seconds a cancelled coroutine has to clean up.
GRACE_S = 1.0
# Seconds a worker runs jobs that never wait themselves before it lets the loop look at its sockets.
TURN_S = 0.0005


class Worker:
    """One of ``workers`` that run jobs, one job at a time."""

    __slots__ = ("_pool", "_turn_ends", "_wakeup", "context", "deadline", "interrupted_by", "job", "retired", "task")

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._wakeup: asyncio.Future[None] | None = None
        # The job that is still to be settled by this worker.
        self.job: Job | None = None
        self.context: Context | None = None
        # When the attempt is to be interrupted, or the worker to be retired; of time.monotonic.
        self.deadline = inf
        self.interrupted_by: Outcome | None = None
        self.retired = False
        # When the loop is to look at its sockets, of time.monotonic.
        self._turn_ends = 0.0
        self.task = pool.loop.create_task(self._work())

    def wake(self) -> None:
        """Let an idle worker look for a job."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def interrupt(self, outcome: Outcome) -> None:
        """Stop the attempt; ``outcome`` is what it counts as unless it was settled already."""
        if self.interrupted_by is None:
            self.interrupted_by = outcome
            if self.context is not None:
                self.context.cancelled = True
            self.task.cancel()

    async def _work(self) -> None:
        pool = self._pool
        # The time is asked for once a job: the end of one is the start of the next.
        now = time.monotonic()
        while not (self.retired or pool.stopping):
            job = pool.claim(now)
            if job is None:
                self._wakeup = pool.loop.create_future()
                pool.idle.append(self)
                await self._wakeup
                now = time.monotonic()
                self._turn_ends = now + TURN_S
                continue
            self.job = job
            deadline = now + job.timeout_s
            pool.set_deadline(self, min(job.deadline, deadline))
            outcome = await self._attempt(job)
            self.deadline = inf
            now = time.monotonic()
            if self.job is job:
                pool.settle(job, outcome, now)
                self.job = None
            if now > self._turn_ends:
                await asyncio.sleep(0)
                now = time.monotonic()
                self._turn_ends = now + TURN_S

    async def _attempt(self, job: Job) -> Outcome:
        pool = self._pool
        task = job.task
        try:
            lane = task.lane or pool.default_lane
            if lane is Lane.PROCESS:
                self.context = pool.context(job)
                result = await pool.in_process(job, self.context)
            else:
                arguments = [_decode(job.payload)]
                if task.takes_context:
                    self.context = pool.context(job)
                    arguments.append(self.context)
                if lane is Lane.LOOP:
                    value = await task.function(*arguments)
                else:
                    value = await pool.threads.run(partial(task.function, *arguments))
                result = None if value is None else encode(value, pool.result_bytes)
            outcome = NULL if result is None else Outcome(SUCCEEDED, result=result)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            if self.interrupted_by is None and self.task.cancelling():
                raise
            outcome = self.interrupted_by or failed(job, error)
        except BaseException as error:  # noqa: BLE001 — whatever a task raises is its job's failure, not ours
            outcome = failed(job, error)
        if self.context is not None:
            self.context.close()
            self.context = None
        if self.interrupted_by is not None:
            outcome, self.interrupted_by = self.interrupted_by, None
            self.task.uncancel()
        return outcome


class Workers:
    """The pool: keeps ``count`` workers alive."""

    def __init__(
        self,
        count: int,
        lost_threads_most: int,
        result_bytes: int,
        ready: Callable[[], int],
        claim: Callable[[float], Job | None],
        settle: Callable[[Job, Outcome, float], None],
        context: Callable[[Job], Context],
        default_lane: Lane = Lane.THREAD,
        processes: Processes | None = None,
    ) -> None:
        self.count = count
        # Where plain functions run that do not say it.
        self.default_lane = default_lane
        # None where no task runs in a process.
        self.processes = processes
        self.result_bytes = result_bytes
        # How many jobs are ready.
        self.ready = ready
        self.claim = claim
        self.settle = settle
        self.context = context
        self.loop: asyncio.AbstractEventLoop
        self.workers: set[Worker] = set()
        # Workers with nothing to do; the one that worked last is woken first.
        self.idle: list[Worker] = []
        # How many were woken in the last turn of the loop, if ``_rally`` is going to be called; else 0.
        self._rallied = 0
        # Workers that died or were retired, and were replaced.
        self.replacements = 0
        self.threads = Threads(count + lost_threads_most)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf
        self.stopping = False

    def start(self) -> None:
        """Start the workers on the running loop."""
        if self.processes is not None:
            self.processes.start()
        # Kept, because asking for it is a system call (getpid) in CPython 3.11.
        self.loop = asyncio.get_running_loop()
        for _ in range(self.count):
            self._hire()

    async def stop(self) -> None:
        """End the workers; what they run is cancelled and not settled. Threads are not waited for."""
        self.stopping = True
        if self._alarm is not None:
            self._alarm.cancel()
        for worker in self.workers:
            worker.task.cancel()
        await asyncio.wait({worker.task for worker in self.workers}, timeout=GRACE_S)
        if self.processes is not None:
            await self.processes.stop()
        self.threads.stop()

    def wake(self) -> None:
        """Let one idle worker look for a job that is ready; while there are more, twice as many in each further turn.

        Many jobs come at once, and where they are short one worker ends them all: to wake and to put to rest another
        for each of them would cost as much as to run it.
        """
        if self.idle and not self._rallied:
            self._rallied = 1
            self.idle.pop().wake()
            self.loop.call_soon(self._rally)

    def _rally(self) -> None:
        more = min(self.ready(), len(self.idle), 2 * self._rallied)
        for _ in range(more):
            self.idle.pop().wake()
        # Those that are ready may not be allowed to run, so it ends once all were asked.
        self._rallied = 2 * self._rallied if more and self._rallied < self.count else 0
        if self._rallied:
            self.loop.call_soon(self._rally)

    def cancel(self, job: Job) -> None:
        """Stop the attempt at ``job``; the caller has settled it."""
        for worker in self.workers:
            if worker.job is job:
                worker.job = None
                worker.interrupt(CANCELLED)
                self.set_deadline(worker, time.monotonic() + GRACE_S)
                return

    def holder(self, loop: asyncio.AbstractEventLoop) -> str | None:
        """Name the task that ``loop`` is in right now, None where it is in none; callable from any thread."""
        current = asyncio.current_task(loop)
        for worker in list(self.workers):
            if worker.task is current and worker.job is not None:
                return f"task {worker.job.task.name}"
        return None

    def set_deadline(self, worker: Worker, deadline: float) -> None:
        """Have ``worker`` looked at when ``deadline``, of time.monotonic, has passed."""
        worker.deadline = deadline
        if deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = deadline
            delay = max(deadline - time.monotonic(), 0.0)
            self._alarm = self.loop.call_later(delay, self._ring_alarm)

    async def in_process(self, job: Job, context: Context) -> Result | None:
        """Run the job's task in a worker process, which is killed if this is cancelled."""
        if self.processes is None:
            raise RuntimeError("no task runs in a process")
        return await self.processes.run(job.task.name, job.payload, context.id, context.attempt, context.progress)

    def _ring_alarm(self) -> None:
        now = time.monotonic()
        self._alarm, self._alarm_at = None, inf
        for worker in list(self.workers):
            if worker.deadline > now:
                continue
            if worker.interrupted_by is None:
                worker.deadline = now + GRACE_S
                worker.interrupt(overtime(worker.job, now))
            else:
                self._retire(worker)
        soonest = min(self.workers, key=lambda worker: worker.deadline)
        if soonest.deadline < inf:
            self.set_deadline(soonest, soonest.deadline)

    def _hire(self) -> None:
        worker = Worker(self)
        self.workers.add(worker)
        worker.task.add_done_callback(lambda task: self._ended(worker, task))

    def _retire(self, worker: Worker) -> None:
        """Take the job from a worker whose function does not stop, and put another worker in its place."""
        worker.retired = True
        self.workers.discard(worker)
        job, worker.job = worker.job, None
        log.error("a task ignores that it was cancelled; its worker is replaced: %s", job.task.name if job else "")
        if job is not None and worker.interrupted_by is not None:
            self.settle(job, worker.interrupted_by, time.monotonic())
        self.replacements += 1
        self._hire()

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        """Replace a worker that died; its attempt counts as crashed."""
        if self.stopping or worker.retired:
            return
        self.workers.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        error = None if task.cancelled() else task.exception()
        log.error("a worker died and is replaced: %r", error, exc_info=error)
        if worker.job is not None:
            self.settle(worker.job, Outcome(State.FAILED, Reason.CRASHED, error="its worker died"), time.monotonic())
        self.replacements += 1
        self._hire()
