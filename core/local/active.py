"""The unfinished jobs, from their submission to their end: each decision about one is made here.

A job waits for its turn, a worker claims it, the end of an attempt settles it, and it is tried
again or ended. Deadlines and delays act on it in between. ``changes`` carries out each decision: at
once in memory, with a journal once it is on disk. Every change of state goes through the board. All
of this runs on one event loop and none of it awaits, so each call sees and leaves the board whole.

One timer serves all delays and deadlines: it is set for the earliest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context as Variables
from math import inf
from typing import TYPE_CHECKING

from headway.core.audit import Trail
from headway.core.board.board import Board
from headway.core.board.idempotency import Keyed, Keys
from headway.core.board.logs import Logs
from headway.core.board.outcomes import Outcomes
from headway.core.board.past_attempts import PastAttempts
from headway.core.board.results import Results
from headway.core.board.tags import Tags
from headway.core.config import Config
from headway.core.ids import COUNT_MASK, Ids
from headway.core.interface import LISTED_MOST
from headway.core.job import Job, Reason, State
from headway.core.key import Key
from headway.core.local.changes import Changes
from headway.core.local.holds import Holds
from headway.core.order import OWN_TASKS
from headway.core.processes.pool import pool_for
from headway.core.queue.queue import Queue
from headway.core.queue.ready import Limit
from headway.core.queue.schedule import Schedule
from headway.core.retry_after.estimate import Estimate
from headway.core.retry_after.generation import Generation
from headway.core.slices import in_slices
from headway.core.stats import Stats
from headway.core.task import Lane
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.waiters import Waiters
from headway.core.wall import wall
from headway.core.work.outcome import Outcome
from headway.core.work.reports import Reports
from headway.core.work.verdict import PAST_DEADLINE, Verdict, judge
from headway.core.work.workers import Workers

if TYPE_CHECKING:
    # 12 ms with the journal, which a server in memory mode does not import.
    from headway.core.local.written_logs import WrittenLogs

log = logging.getLogger(__name__)

# Seconds between two looks at the jobs that run, while they are waited for.
LOOK_S = 0.005
# Members of an enum cost several times as much to look up (CPython 3.11).
SCHEDULED, RUNNING, RETRYING, FAILED = State.SCHEDULED, State.RUNNING, State.RETRYING, State.FAILED


class Active:
    """The active jobs by sequence number. The others have only a row, and a result.

    ``waiting`` is the number of jobs of previous processes. It may be more than the queue accepts
    now.
    """

    def __init__(self, config: Config, registry: Registry, ids: Ids, board: Board, waiting: int = 0) -> None:
        self.config = config
        self.ids = ids
        self.board = board
        # The jobs that may run in processes: as many as processes are up. So no job without a
        # process is called running.
        self._process_limit = Limit(0)
        # The functions that may be in threads, those given up included: no more are claimed. Above
        # ``lost_threads`` the server is not ready. As many as there are workers are kept for the
        # jobs that it has.
        threads = Limit(config.workers + config.limits.lost_threads + config.workers)
        limits = _limits(config, registry, self._process_limit, threads)
        # The index of the first of the server's own tasks. The clerk carries these out. The maker sets
        # it: it needs this object to act on.
        self.own_from = len(registry.tasks)
        self.clerk: Workers | None = None
        most = max(config.queue.size, waiting) + config.workers
        self.queue = Queue(board, config.queue.size, most, limits, len(OWN_TASKS))
        self.results = Results(board, config.results.max_bytes)
        self.past = PastAttempts(board, config.attempts.max_bytes)
        self.keys = Keys(config.idempotency.seconds, config.idempotency.keys)
        polls_per_second = config.polling.share * config.polling.capacity
        self.estimate = Estimate(
            config.workers, len(registry.tasks), polls_per_second, self.queue.line_numbers, len(OWN_TASKS)
        )
        self.estimate.first = Generation(config.workers)
        self.stats = Stats(len(registry.tasks) + len(OWN_TASKS))
        # The value of the lifespan, for the tasks.
        self.state: object = None
        self.jobs: dict[int, Job] = {}
        self.outcomes = Outcomes(board)
        # The last batches, as ``batch_number`` makes them.
        self.last_batches: deque[int] = deque(maxlen=LISTED_MOST)
        self.tags = Tags(board)
        # The audit log, without a journal.
        self.trail = Trail(config.audit.kept)
        # The messages beside the progress of running jobs, by sequence number.
        self.messages: dict[int, str] = {}
        # Called when there is another, with the number, and when there is none any more.
        self.on_message: Callable[[int, str], object] = lambda _sequence, _message: None
        # The logs of jobs. ``changes`` with a journal put others here.
        self.log_bytes = config.results.log_bytes
        self.logs: Logs | WrittenLogs = Logs(board, self.log_bytes, config.results.log_max_bytes, self.log_grown)
        # Reports of threads that are not taken yet, by sequence number.
        self.reports: dict[int, Reports] = {}
        # Jobs whose log has grown, while clients that wait for that are about to be woken.
        self._grown: set[int] = set()
        self.workers = Workers(
            config.workers,
            config.results.max_result_bytes,
            self,
            Lane(config.jobs.run_in),
            processes=pool_for(config, registry),
            arounds=registry.arounds,
        )
        if self.workers.processes is not None:
            self.workers.processes.on_up = self.workers.wake
        self.holds = Holds(self.queue, registry.by_name, self.wake)
        # The deadlines of waiting jobs, at which these fail.
        self.deadlines = Schedule()
        self.waiters = Waiters()
        # Jobs that waited in the process before, until the start, in the order in which they stood.
        self.carried: list[Job] = []
        # Set by the maker: it needs this object to act on.
        self.changes: Changes
        # Set when there is no job, while a call waits for that, but for those of tasks that are still
        # held at ``_none_until``, of time.time.
        self._none: asyncio.Event | None = None
        self._none_until = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def __len__(self) -> int:
        return len(self.jobs)

    def start(self, on_fatal: Callable[[str], object]) -> None:
        """Start the workers on the running loop, and go on with the jobs of before.

        ``on_fatal`` gets a line when no job can be kept any more.
        """
        self.workers.start()
        self.holds.start()
        self.changes.start(on_fatal)
        if self.clerk is not None:
            self.clerk.start()

    async def rest(self, timeout_s: float) -> int:
        """Wait until no job runs. Return how many still do after ``timeout_s``."""
        board, until = self.board, time.monotonic() + timeout_s
        while board.count[State.RUNNING] and time.monotonic() < until:  # noqa: ASYNC110 — once
            await asyncio.sleep(LOOK_S)
        return board.count[State.RUNNING]

    async def wait_for_none(self, until: float) -> None:
        """Wait until there is no active job but those of tasks that are still held at ``until``, of time.time."""
        self._none, self._none_until = asyncio.Event(), until
        self.look_for_none()
        await self._none.wait()

    def look_for_none(self) -> None:
        """Wake the call that waits for the end of all jobs, if it has come."""
        if self._none is not None and (not self.jobs or self.held(self._none_until) == len(self.jobs)):
            self._none.set()

    def held(self, until: float) -> int:
        """Return how many jobs wait for their task, which is held at ``until``, of time.time."""
        if not self.holds.held:
            return 0
        held = self.holds.lasting(until)
        running = sum(attempt.job is not None and attempt.job.task.index in held for attempt in self.workers.attempts)
        return sum(self.stats.unfinished[task] for task in held) - running

    async def stop(self) -> None:
        """End the workers and the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self.holds.stop()
        await self.workers.stop()
        if self.clerk is not None:
            await self.clerk.stop()
        self.changes.put_back()

    # For the changes: their effects.

    def keep_key(self, job: Job, key: Key, now: float) -> None:
        """Answer with ``job`` whoever submits it again under ``key``."""
        self.keys.put(key.text, Keyed(job.sequence, key.digest, now, job.batch & COUNT_MASK))

    def let_wait(self, job: Job, delay: float, now: float) -> None:
        """Let a job that has its row wait for its turn. The caller wakes the workers."""
        self.jobs[job.sequence] = job
        self.stats.unfinished[job.task.index] += 1
        if self.board.on_move is not None:
            # Its row was opened so, maybe unseen until now.
            self.board.on_move(job.sequence, self.board.at(job.sequence), now)
        if job.terms.tags:
            self.tags.put(job.sequence, job.terms.tags)
        if job.batch and (not self.last_batches or job.batch != self.last_batches[-1]):
            self.last_batches.append(job.batch)
        if job.deadline < inf:
            self.deadlines.add(job.sequence, job.deadline)
            if job.deadline < self._timer_at:
                self.set_timer()
        if delay:
            self._delay(job.sequence, now + delay)
        else:
            self.queue.push(job.sequence)

    def take_up(self, job: Job) -> None:
        """Count a job of before that is about to end among the active ones."""
        self.jobs[job.sequence] = job
        self.stats.unfinished[job.task.index] += 1

    def wake(self) -> None:
        """Have the workers look for jobs, and the clerk for orders."""
        self.workers.wake()
        if self.clerk is not None:
            self.clerk.wake()

    def interrupt(self, job: Job) -> None:
        """Stop the attempt at a job that runs. The caller settles it."""
        (self.clerk if self.clerk is not None and job.task.index >= self.own_from else self.workers).cancel(job)

    def wait_as(self, sequence: int, state: State, priority: int, due: float, now: float) -> None:
        """Let a job wait on other terms, as ``Changes.revise`` says, after it was taken out of the queue."""
        self.board.revise(sequence, state, priority, due, now)
        if state == State.QUEUED:
            self.queue.push(sequence)
            self.workers.wake()
        else:
            self._delay(sequence, due)

    def show_forgotten(self, sequence: int) -> None:
        """Forget the result of a finished job, its failed attempts and its log."""
        self.results.forget(sequence)
        self.logs.forget(sequence)
        self.past.forget(sequence)
        # It had a result, which is gone. Without this the result would be ``null``.
        self.board.has_result[self.board.at(sequence)] = 1

    def show_end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """Let clients see the end of a job."""
        board, sequence = self.board, job.sequence
        if result is not None:
            board.has_result[board.at(sequence)] = 1
            if state is FAILED:
                self.results.put_error(sequence, result, job, job.terms.keep_s)
            else:
                self.results.put(sequence, result, job.terms.keep_s)
        board.move(sequence, state, now, reason, job.terms.keep_s)
        if job.batch:
            self.outcomes.add(job.batch, state, now)
        del self.jobs[sequence]
        if self.messages:
            self.messages.pop(sequence, None)
        if self.logs.open:
            self.logs.ended(sequence)
        self.stats.unfinished[job.task.index] -= 1
        self.stats.ended[job.task.index][state] += 1
        self.stats.last_end = now
        self.queue.payload_bytes -= len(job.payload)
        if self.waiters.count:
            self.waiters.ended(sequence)
        if self._none is not None:
            self.look_for_none()

    # For the workers.

    def claim(self, now: float) -> Job | None:
        """Return a job that begins now, or None."""
        if not self.changes.may_claim:
            return None
        if self.workers.processes is not None:
            self._process_limit.most = self.workers.processes.up
        sequence = self.queue.claim()
        if not sequence:
            return None
        board, job = self.board, self.jobs[sequence]
        row, task = board.move(sequence, RUNNING, now), job.task.index
        self.stats.wait[task].add(now - (board.due[row] or board.submitted[row]))
        self.estimate.began(task, now, sequence)
        self.changes.claimed(sequence, row)
        return job

    def release(self, job: Job) -> None:
        """Note that an attempt less runs at the task of ``job``."""
        self.queue.release(job.task.index)

    def settle(self, job: Job, outcome: Outcome, now: float) -> None:
        """End an attempt: try again, or end the job."""
        if self.messages:
            self.messages.pop(job.sequence, None)
        if self.reports and (reports := self.reports.pop(job.sequence, None)) is not None:
            reports.finish()
        if not self.changes.keeps_back(job, outcome, now):
            self.decide(job, outcome, now)

    def context(self, job: Job) -> Context:
        """Return the context for an attempt at a job that was claimed."""
        board, row = self.board, self.board.at(job.sequence)
        attempt = board.attempt(row)
        reports = Reports(self, job.sequence, attempt, asyncio.get_running_loop())
        return Context(
            self.ids.write(job.sequence, board.tag[row]).decode(),
            attempt,
            reports.progress,
            write=reports.write,
            task=job.task.name,
            state=self.state,
            traceparent=job.terms.traceparent,
        )

    def progressed(self, sequence: int, attempt: int, percent: int, message: str) -> None:
        """Show the progress of an attempt, unless it has ended."""
        if self.board.report(sequence, attempt, percent, time.monotonic()):
            if message:
                self.messages[sequence] = message
                self.on_message(sequence, message)
            elif sequence in self.messages:
                del self.messages[sequence]
                self.on_message(sequence, "")

    def write(self, sequence: int, attempt: int, text: bytes, skipped: int = 0) -> None:
        """Add text of an attempt to the log of its job, after ``skipped`` bytes that were not kept.

        Text that comes after the end of the job is dropped.
        """
        if sequence in self.jobs:
            self.logs.add(sequence, attempt, text, skipped)
        else:
            self.reports.pop(sequence, None)

    def log_grown(self, sequence: int) -> None:
        """Wake the clients that wait for more of a job's log, in the next turn of the loop."""
        if self.waiters:
            if not self._grown:
                # Not in a job, nor in its context.
                asyncio.get_running_loop().call_soon(self._wake_readers, context=Variables())
            self._grown.add(sequence)

    def _wake_readers(self) -> None:
        grown, self._grown = self._grown, set()
        for sequence in grown:
            self.waiters.grown(sequence)

    def end_log(self, sequence: int) -> None:
        """Have the rest of a job's log kept with its end, which is written next."""
        if self.reports and (reports := self.reports.pop(sequence, None)) is not None:
            reports.finish()
        if self.logs.open:
            self.logs.ending(sequence)

    # Decisions.

    def decide(self, job: Job, outcome: Outcome, now: float, *, learns: bool = True) -> None:
        """Try again, or end the job, after an attempt with this outcome. Learn from the time that it took."""
        if learns:
            board, task = self.board, job.task.index
            ran = now - board.started[board.at(job.sequence)]
            self.stats.run[task].add(ran)
            self.estimate.observe(task, ran, now, job.sequence)
        if outcome.state is not FAILED and outcome.state is not SCHEDULED:
            # As most attempts end: there is nothing to judge.
            self.end(job, outcome.state, now, outcome.result)
            return
        attempt = self.board.attempt(self.board.at(job.sequence))
        verdict = judge(outcome, attempt, job.terms.retries, job.deadline - now, self.config.jobs)
        if verdict.fault is None:
            self._follow(job, verdict, now)
            return
        with self.changes.together():
            self._keep(job, verdict.fault, now)
            self._follow(job, verdict, now)

    def _follow(self, job: Job, verdict: Verdict, now: float) -> None:
        sequence = job.sequence
        if verdict.state is not RETRYING and verdict.state is not SCHEDULED:
            self.end(job, verdict.state, now, verdict.result, verdict.reason)
            return
        self.board.move(sequence, verdict.state, now)
        self._delay(sequence, now + verdict.delay_s)
        if verdict.state is SCHEDULED:
            self.changes.snooze(sequence)
        else:
            self.stats.retries += 1
            self.changes.retry(sequence)

    def _keep(self, job: Job, outcome: Outcome, now: float) -> None:
        """Log a failed attempt and keep it."""
        board, row, offset = self.board, self.board.at(job.sequence), wall.read()
        number, lane = board.attempt(row), job.task.lane or self.workers.default_lane
        outcome.log(self.id_of(job), job.task.name, number)
        past = outcome.past(number, board.started[row] + offset, now + offset, lane.value)
        self.changes.failed(job.sequence, past)

    def id_of(self, job: Job) -> str:
        """Return the id under which clients know a job that has its row."""
        return self.ids.write(job.sequence, self.board.tag[self.board.at(job.sequence)]).decode()

    def fail_waiting(self, job: Job, now: float) -> None:
        """Fail a job that waits at its deadline."""
        outcome = Outcome(FAILED, Reason.DEADLINE, error=PAST_DEADLINE)
        outcome.log_waiting(self.id_of(job), job.task.name, self.board.attempt(self.board.at(job.sequence)))
        self.end(job, FAILED, now, Result(outcome.error), outcome.reason)

    def end(
        self, job: Job, state: State, now: float, result: Result | None = None, reason: Reason = Reason.NONE
    ) -> None:
        """End a job for good."""
        if self.reports or self.logs.open:
            self.end_log(job.sequence)
        if job.deadline < inf:
            self.deadlines.remove(job.sequence)
        self.changes.end(job, state, now, result, reason)

    def _delay(self, sequence: int, due: float) -> None:
        self.queue.delay(sequence, due)
        if due < self._timer_at:
            self.set_timer()

    def set_timer(self) -> None:
        """Have ``_act_in_time`` called when the next job is due or at its deadline."""
        due = min(self.queue.delayed.next, self.deadlines.next)
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            delay = max(due - time.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._act_in_time)

    def _act_in_time(self) -> None:
        # Until all are done there is no other timer.
        self._timer, self._timer_at = None, 0.0
        in_slices(self._act(time.monotonic()))

    def _act(self, now: float) -> Iterator[None]:
        """Handle the jobs that are due, a job a step. Then have the timer set again."""
        try:
            yield from self._do_what_is_due(now)
        except Exception:
            log.exception("jobs that were due could not be handled")
        self._timer_at = inf
        self.set_timer()

    def _do_what_is_due(self, now: float) -> Iterator[None]:
        while overdue := self.deadlines.take(now, 1):
            sequence = overdue[0]
            # The worker stops a job that runs.
            if self.board.state(sequence) != State.RUNNING:
                self.queue.remove(sequence)
                self.fail_waiting(self.jobs[sequence], now)
            yield
        while due := self.queue.delayed.take(now, 1):
            sequence = due[0]
            self.board.move(sequence, State.QUEUED, now)
            self.queue.push(sequence)
            self.workers.wake()
            yield


def _limits(config: Config, registry: Registry, processes: Limit, threads: Limit) -> list[tuple[Limit, ...]]:
    """Return each task's limits: its own, and that of ``processes`` or ``threads``."""
    of_lane: dict[Lane, tuple[Limit, ...]] = {Lane.LOOP: (), Lane.THREAD: (threads,), Lane.PROCESS: (processes,)}
    return [
        (() if task.max_concurrent is None else (Limit(task.max_concurrent),))
        + of_lane[task.lane or Lane(config.jobs.run_in)]
        for task in registry.tasks
    ] or [()]
