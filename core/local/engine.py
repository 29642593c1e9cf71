"""The engine in one process: the protocol's calls, in memory or with a journal.

Each call about jobs sees and leaves the board whole, since none of them awaits. With a journal a
change is answered once it is committed. Until then the call returns Later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from headway.core.audit import Act, AuditEntry
from headway.core.board.batches import Batches
from headway.core.board.board import Board
from headway.core.board.rows import ROWS_LEAST_BY_CLOCK, rows_for
from headway.core.body import Body
from headway.core.config import Config
from headway.core.durability import Durability
from headway.core.events import EventFilter
from headway.core.history import KEPT, Minute
from headway.core.hold import Switches
from headway.core.ids import COUNT_BITS, COUNT_MASK, Ids
from headway.core.interface import (
    Accepts,
    Cancelled,
    CancelledBatch,
    Feed,
    Later,
    Page,
    Polled,
    Soon,
    Submitted,
    SubmittedBatch,
)
from headway.core.job import Revision, State, Submission
from headway.core.job_filter import JobFilter
from headway.core.job_log import JobLog
from headway.core.key import Key
from headway.core.later import Read, Then
from headway.core.local import deploy
from headway.core.local.acting import Acting
from headway.core.local.active import Active
from headway.core.local.admission import Admission
from headway.core.local.at_once import AtOnce
from headway.core.local.catalogue import catalogue, catalogued
from headway.core.local.chores import Chores
from headway.core.local.counting import Counting
from headway.core.local.details import LocalDetails
from headway.core.local.finding import Finding
from headway.core.local.historian import Historian
from headway.core.local.orders import Orders
from headway.core.local.reading import Reading
from headway.core.local.receipts import Receipts
from headway.core.local.recorder import Recorder
from headway.core.local.waiting import BatchFinished, Finished, LogGrown
from headway.core.memfile import nameless_file
from headway.core.order import OWN_MOST, OWN_TASKS, Action, meant
from headway.core.past_attempt import PastAttempt
from headway.core.retention import Retention
from headway.core.retry_after.promises import Promises
from headway.core.running import variables_of
from headway.core.stats import Counts
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.tasks.lifespan import Lifespan
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.work.watchdog import Watchdog

if TYPE_CHECKING:
    from headway.core.journal.journal import Journal
    from headway.core.journal.reader import Saved


class LocalEngine:
    """The board and all that acts on it. With ``journal`` it is on disk as well.

    ``before`` has the facts that the previous process handed over in a deploy.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        journal: Journal | None = None,
        before: deploy.Carried | None = None,
    ) -> None:
        self.config = config
        self.registry = registry
        self.journal = journal
        self.durability: Durability = "memory" if journal is None else config.journal.durability
        # The tasks by the index that the board has of them.
        names = [*(task.name for task in registry.tasks), *OWN_TASKS]
        self.active: Active
        kept, most = Retention.of(config.retention), config.queue.size + config.workers + OWN_MOST
        if journal is not None:
            # 12 ms with the journal itself, which a server in memory mode does not import.
            from headway.core.local.durable import Durable

            waiting = journal.found.waiting()
            most = max(most, waiting + config.workers + OWN_MOST)
            self.ids = journal.found.ids
            rows = max(rows_for(kept.jobs, most), ROWS_LEAST_BY_CLOCK)
            # Gateways map it.
            fd = nameless_file("headway-board") if config.server.gateways else -1
            self.board = Board(kept, most, rows=rows, fd=fd)
            self.active = Active(config, registry, self.ids, self.board, waiting)
            self.active.changes = Durable(self.active, journal)
        elif before is not None:
            self.ids = Ids(before.document.secret, before.document.salts)
            waiting = before.waiting
            most = max(most, waiting + config.workers + OWN_MOST)
            self.board = before.board(kept, most, names)
            self.active = Active(config, registry, self.ids, self.board, waiting)
            self.active.changes = AtOnce(self.active)
        else:
            self.ids = Ids()
            self.board = board_for(config, nameless_file("headway-board"))
            self.active = Active(config, registry, self.ids, self.board)
            self.active.changes = AtOnce(self.active)
        self.changes = self.active.changes
        active = self.active
        self.promises = Promises(self.board, active.queue, active.estimate, active.jobs, active.deadlines)
        self.promises.held = active.holds.held
        active.holds.on_change = self._switched
        self.reading = Reading(self.ids, active, self.promises, names)
        self.recorder = Recorder(self.reading, self.ids, active.jobs, config.events, self.retry_after_s)
        self.finding = Finding(self.reading, active, None if journal is None else journal.reader)
        self.polled: Polled | None = self.reading
        self.batches = Batches(self.board, self.active.outcomes, self.ids, self.promises.when_all)
        self.receipts = Receipts(active, self.reading, self.batches)
        self.acting = Acting(active, registry, self.reading, self.batches)
        self.admission = Admission(active, registry, self.durability)
        self.orders = Orders(active, self.admission, self.finding, None if journal is None else journal.reader)
        active.clerk = self.orders.workers
        if before is not None:
            before.give(active, registry.by_name | self.orders.tasks)
            self.promises.learn(self.board, time.monotonic())
        self.details = LocalDetails(
            active, registry.by_name, self.orders.tasks, None if journal is None else journal.reader
        )
        self.historian = Historian(active, names, self.changes.keep_minute)
        if before is not None:
            self.historian.restore(before.document.history)
        self.lifespan = Lifespan(registry.lifespan, variables_of("the lifespan"))
        self.watchdog = Watchdog(config.watchdog.stall, self.active.workers.holder)
        self.counting = Counting(active, registry.tasks, self.recorder, self.watchdog, journal)
        chores: list[tuple[str, Callable[[float], Iterable[object]]]] = [
            ("read the clocks", self.reading.tick),
            ("forget results", self.active.results.trim),
            ("forget attempts", self.active.past.trim),
            ("forget keys", self.active.keys.trim),
            ("forget tags", self.active.tags.trim),
            ("forget events", self.recorder.tick),
            ("forget logs", self.active.logs.trim),
            ("expire", self.changes.expire),
            ("write the history", self.historian.tick),
        ]
        self.chores = Chores(chores)

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here; None if they are."""
        if self.admission.draining:
            return "draining"
        if self.changes.full:
            return "the journal's disk is full"
        lost = self.active.workers.threads.lost
        if lost > self.config.limits.lost_threads:
            return f"{lost} threads are lost to tasks that do not return. Restart the server."
        processes = self.active.workers.processes
        if processes is not None and not processes.up:
            return "no worker process is up"
        return None

    @property
    def waiting(self) -> int:
        """How many clients wait, as Engine says."""
        return len(self.active.waiters)

    # Reading.

    def peek(self, job_id: bytes, brief: bool = False) -> Status | None:
        """Return the status of a job, as Engine says."""
        return self.reading.peek(job_id)

    def peek_key(self, key: str) -> Status | None:
        """Return the status of the job under a key; None also if it is not committed yet."""
        return self.reading.peek_key(key)

    def peek_batch(self, batch_id: bytes) -> BatchStatus | None:
        """Return the status of a batch, as Engine says."""
        return self.batches.peek(batch_id, time.monotonic())

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return the jobs of a page that there is time for, as Engine says."""
        return self.finding.find(wanted, after, limit)

    def recent_batches(self) -> list[BatchStatus]:
        """Return the last batches, as Engine says."""
        now, recent = time.monotonic(), reversed(self.active.last_batches)
        found = [self.batches.status(word >> COUNT_BITS, word & COUNT_MASK, now) for word in recent]
        return [batch for batch in found if batch.expired < batch.count]

    def list_batch(self, batch: BatchStatus) -> Sequence[tuple[bytes, int]]:
        """Return (id, state) of the jobs of a batch, as Engine says."""
        return self.batches.jobs(batch, time.monotonic())

    def tasks(self) -> list[TaskStatus]:
        """Return the declared tasks, as Engine says."""
        return catalogue(self.config, self.registry, self.active)

    def task(self, name: str) -> TaskStatus | None:
        """Return a declared task, as Engine says."""
        found = self.registry.by_name.get(name)
        return None if found is None else catalogued(self.config, found, self.active)

    def accepts(self, task: str) -> Accepts | None:
        """Return the content that a task accepts, as Engine says."""
        found = self.registry.by_name.get(task)
        return None if found is None else Accepts(found.takes_json, found.takes_content, found.body_bytes)

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a finished job, as Engine says."""
        return self.details.result(status)

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of failed jobs, as Engine says."""
        return self.details.errors(jobs)

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job, as Engine says."""
        return self.details.payload(status)

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job, as Engine says."""
        return self.details.attempts(status)

    def log(self, status: Status) -> Soon[JobLog]:
        """Return the log of a job, as Engine says."""
        return self.active.logs.read(status.sequence)

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of an active job once its log has grown, as Engine says."""
        active = self.active
        seconds = 0.0 if self.admission.draining else seconds
        return LogGrown(active.waiters, status, seconds, length=length, total=active.logs.total, at=self.reading.at)

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of an active job once it has finished, as Engine says."""
        seconds = 0.0 if self.admission.draining else seconds
        return Finished(self.active.waiters, status.sequence, seconds, self.reading.at)

    def wait_batch(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a pending batch once its jobs have finished, as Engine says."""
        seconds = 0.0 if self.admission.draining else seconds
        return BatchFinished(self.batches, self.active.waiters, batch, seconds, self.batches.again)

    def watch(self, wanted: EventFilter, after: int | None = None) -> Feed:
        """Return the events that fit ``wanted``, as Engine says."""
        return self.recorder.watch(wanted, after)

    # Submitting.

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise if ``count`` jobs would be refused now, as Engine says."""
        self.admission.check_room(count, payload_bytes)

    def replay(self, key: Key) -> Soon[Submitted] | None:
        """Return the job that was accepted under ``key``, as Engine says."""
        keyed = self.admission.keyed(key)
        return None if keyed is None else self.receipts.of(keyed.sequence, replayed=True)

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch] | None:
        """Return the batch that was accepted under ``key``, as Engine says."""
        keyed = self.admission.keyed(key)
        return None if keyed is None else self.receipts.of_batch(keyed.sequence, keyed.batch, replayed=True)

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Accept a job, as Engine says."""
        before = None if key is None else self.replay(key)
        if before is not None:
            return before
        now = time.monotonic()
        sequence = self.admission.accept(submission, now, key)
        if self.journal is not None:
            return self.receipts.of(sequence)
        # It is in its home row, since no job has come after it.
        return Submitted(self.reading.status(sequence % self.board.rows, now))

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> Soon[SubmittedBatch]:
        """Accept jobs as a batch, as Engine says."""
        before = None if key is None else self.replay_batch(key)
        if before is not None:
            return before
        first = self.admission.accept_batch(submissions, time.monotonic(), key)
        return self.receipts.of_batch(first, len(submissions))

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> Soon[Submitted]:
        """Resubmit a failed job, as Engine says. Its payload may have to be read from the disk."""
        before = None if key is None else self.replay(key)
        if before is not None:
            return before
        if self.journal is None or status.state != State.FAILED:
            return self._retry(status, None, key, act)
        return Then(
            Read(asyncio.ensure_future(self.journal.reader.job(status.sequence))),
            # It may have been accepted under the same key meanwhile.
            lambda saved: (key and self.replay(key)) or self._retry(status, saved, key, act),
        )

    def _retry(self, status: Status, saved: Saved | None, key: Key | None, act: Act | None) -> Soon[Submitted]:
        with self.changes.together():
            sequence = self.admission.resubmit(status, saved, time.monotonic(), key)
            self.receipts.note(act, sequence)
        return self.receipts.of(sequence)

    # Acting on tasks and on jobs that wait or run.

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, as Engine says."""
        return self.acting.switch(task, switches, act)

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> Soon[Status]:
        """Change a job that waits, as Engine says."""
        return self.acting.revise(status, revision, act)

    def cancel(self, status: Status, act: Act | None = None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        return self.acting.cancel(status, act)

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        return self.acting.cancel_batch(batch, act)

    def _switched(self, task: int) -> Iterable[object]:
        self.active.look_for_none()
        return self.promises.forget(task)

    # Ordering.

    def order(
        self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None
    ) -> Soon[Submitted]:
        """Accept an order about many jobs, as Engine says."""
        before = None if key is None else self.replay(key)
        if before is not None:
            return before
        with self.changes.together():
            sequence = self.orders.accept(action, wanted, time.monotonic(), key)
            self.receipts.note(act, sequence)
        return self.receipts.of(sequence)

    def count_meant(self, action: Action, wanted: JobFilter) -> Soon[Mapping[str, int]]:
        """Return how many jobs an order would be about, as Engine says."""
        wanted = meant(action, wanted)
        self.finding.check(wanted)
        return Read(asyncio.ensure_future(self.orders.count(action, wanted)))

    # Auditing.

    def note(self, act: Act) -> None:
        """Keep an act of the server itself, as Engine says."""
        self.changes.note(act, of_change=False)

    def audit(self, before: int, limit: int) -> Soon[Sequence[AuditEntry]]:
        """Return entries of the audit log, as Engine says."""
        if self.journal is None:
            return self.active.trail.read(before, limit)
        return Read(asyncio.ensure_future(self.journal.reader.audit(before, limit)))

    # Counting.

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return when there is room for a request, as Engine says."""
        return self.active.estimate.pace.promise(time.monotonic(), seconds)

    def history(self, minutes: int) -> list[Minute]:
        """Return the last minutes, as Engine says."""
        return self.historian.minutes(minutes)

    def counts(self) -> Counts:
        """Return all counts, as Engine says."""
        return self.counting.counts(self.waiting, draining=self.admission.draining)

    # Life.

    def restore(self, progress: Callable[[int], object]) -> None:
        """Read the journal, if there is one. Call this before ``start``, in any thread.

        ``progress`` gets, now and then, the number of jobs read so far. Raises JournalError.
        """
        if self.journal is None:
            return
        from headway.core.local.durable import Durable
        from headway.core.local.restore import restore

        assert isinstance(self.changes, Durable)
        found, tasks = self.journal.found, self.registry.by_name | self.orders.tasks
        with found.reading():
            self.reading.names[:] = restore(self.active, self.changes, tasks, progress)
            self.historian.restore(found.minutes())
        self.promises.learn(self.board, time.monotonic())

    async def start(self, on_fatal: Callable[[str], object]) -> None:
        """Enter the lifespan. Start the workers, the watchdog and the chores, as Engine says."""
        self.active.state = await self.lifespan.begin()
        try:
            await self.active.workers.begin()
        except BaseException:
            await self.lifespan.end()
            raise
        self.active.start(on_fatal)
        self.watchdog.start()
        self.chores.start()

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> int:
        """Wait for the present jobs, as Engine says. Return how many are left after ``timeout_s``.

        With a journal only running jobs are waited for, and so it is if clients are kept. The others are left to the
        next start.
        """
        if keeps_clients:
            return await self.changes.pause(timeout_s)
        self.admission.draining = True
        self.promises.expect_end(time.monotonic() + (timeout_s if self.journal is None else 0.0))
        self.active.waiters.release()
        return await self.changes.finish(timeout_s)

    def resume(self) -> None:
        """Accept jobs again after a drain that did not lead to an end."""
        self.admission.draining = False
        self.promises.expect_no_end()
        self.changes.resume()

    def hand_over(self, file: BinaryIO) -> int | None:
        """Write to ``file`` what the next process goes on from, as Engine says. Raises RuntimeError if a job runs."""
        if self.journal is not None:
            return None
        running = self.board.count[State.RUNNING]
        if running:
            raise RuntimeError(f"{running} jobs have not finished")
        deploy.write(file, self.ids, self.reading.names, self.active, self.historian.minutes(KEPT))
        return self.board.fd

    async def stop(self) -> None:
        """End workers, timers and chores. All facts can still be read."""
        self.chores.stop()
        self.watchdog.stop()
        await self.active.stop()
        self.recorder.stop()
        self.historian.stop()
        await self.lifespan.end()

    async def close(self) -> None:
        """Close the journal, if there is one."""
        await self.changes.close()


def board_for(config: Config, fd: int = -1) -> Board:
    """Return an empty board as the settings ask for it. Raises ConfigError if there is no memory for it."""
    return Board(Retention.of(config.retention), config.queue.size + config.workers + OWN_MOST, fd=fd)
