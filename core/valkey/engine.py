"""The engine on Valkey: many nodes, each of which accepts jobs, runs jobs and knows all jobs.

Each call asks the store, or goes by what the store has said of a change. So what a client is told
at one node holds at all of them. The store decides: a script accepts jobs, claims them and ends
them, each in one step.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, TypeVar

from headway.core.audit import Act, AuditEntry
from headway.core.body import Body
from headway.core.config import Config
from headway.core.durability import Durability
from headway.core.errors import ConfigError, HeadwayError
from headway.core.events import EventFilter
from headway.core.history import Minute
from headway.core.hold import Switches
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
from headway.core.job import Revision, Submission
from headway.core.job_filter import JobFilter
from headway.core.job_log import JobLog
from headway.core.key import Key
from headway.core.later import Read, then
from headway.core.link.address import Address
from headway.core.link.reply_error import StoreError
from headway.core.order import Action
from headway.core.past_attempt import PastAttempt
from headway.core.running import variables_of
from headway.core.stats import Counts
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.store.store import Store
from headway.core.tasks.lifespan import Lifespan
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.valkey.catalogue import Catalogue
from headway.core.valkey.hints import Hints
from headway.core.valkey.parts import Parts
from msgspec.structs import replace

# What comes of a look.
Found = TypeVar("Found")

# Seconds for which a check waits for a store that is not there.
CHECK_S = 2.0


class ValkeyEngine:
    """A node of the queue in the store of ``config.engine``. Raises ConfigError if that is no URL of one."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self.config = config
        self.registry = registry
        self.address = Address.of(config.engine or "")
        # No rows of jobs are in this process.
        self.polled: Polled | None = None
        self.catalogue = Catalogue(config, registry)
        self.hints = Hints(config, registry, self._limit)
        self.lifespan = Lifespan(registry.lifespan, variables_of("the lifespan"))
        self.store: Store | None = None
        # Set by ``start``.
        self.parts: Parts

    @property
    def durability(self) -> Durability:
        """What an accepted job survives."""
        return "process" if self.store is None else self.store.durability

    @property
    def waiting(self) -> int:
        """How many clients wait, as Engine says."""
        return len(self.parts.cache.waiters) + len(self.parts.batches.waiters)

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here; None if they are."""
        if self.store is None or not self.store.keys:
            return "the store is not reached yet"
        if self.parts.intake.is_draining:
            return "draining"
        if self.parts.hands.why:
            return self.parts.hands.why
        if self.parts.heartbeat.is_missed:
            return f"the heartbeat does not reach the store: {self.parts.heartbeat.why}"
        if self.parts.submissions.full is not None:
            return "the store is full: it has reached its maxmemory"
        workers = self.parts.hands.crew.workers
        if workers.threads.lost > self.config.limits.lost_threads:
            return f"{workers.threads.lost} threads are lost to tasks that do not return. Restart the server."
        if workers.processes is not None and not workers.processes.up:
            return "no worker process is up"
        return None

    # Reading.

    def peek(self, job_id: bytes, brief: bool = False) -> Soon[Status | None]:
        """Return the status of a job, as Engine says."""
        return self.parts.statuses.peek(job_id)

    def peek_key(self, key: str) -> Soon[Status | None]:
        """Return the status of the job under a key, as Engine says."""
        return self.parts.statuses.peek_key(key)

    def peek_batch(self, batch_id: bytes) -> Soon[BatchStatus | None]:
        """Return the status of a batch, as Engine says."""
        return self.parts.batches.peek(batch_id)

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        return self._once_known(wanted.task, lambda: self.parts.finding.find(wanted, after, limit))

    def recent_batches(self) -> Soon[Sequence[BatchStatus]]:
        """Return the last batches, as Engine says."""
        return self.parts.batches.recent()

    def list_batch(self, batch: BatchStatus) -> Soon[Sequence[tuple[bytes, int]]]:
        """Return (id, state) of the jobs of a batch, as Engine says."""
        return self.parts.batches.jobs(batch)

    def tasks(self) -> Soon[Sequence[TaskStatus]]:
        """Return the tasks of all nodes, as Engine says."""
        return self.parts.counting.tasks()

    def task(self, name: str) -> Soon[TaskStatus | None]:
        """Return a task of any node, as Engine says."""
        return self.parts.counting.task(name)

    def accepts(self, task: str) -> Accepts | None:
        """Return the content that a task accepts, as Engine says."""
        card = self.catalogue.get(task)
        if card is None:
            # Another node may know it by the next question.
            self.catalogue.look()
            return None
        return card.accepts

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a finished job, as Engine says."""
        return self.parts.details.result(status)

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of failed jobs, as Engine says."""
        return self.parts.details.errors(jobs)

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job, as Engine says."""
        return self.parts.details.payload(status)

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job, as Engine says."""
        return self.parts.details.attempts(status)

    def log(self, status: Status) -> Soon[JobLog]:
        """Return the log of a job, as Engine says."""
        return self.parts.details.log(status)

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of an active job once its log has grown, as Engine says."""
        return self.parts.details.wait_log(status, length, self._patience(seconds))

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of an active job once it has finished, as Engine says."""
        return self.parts.statuses.wait(status, self._patience(seconds))

    def wait_batch(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a pending batch once its jobs have finished, as Engine says."""
        return self.parts.batches.wait(batch, self._patience(seconds))

    def _patience(self, seconds: float) -> float:
        return 0.0 if self.parts.intake.is_draining else seconds

    def watch(self, wanted: EventFilter, after: int | None = None) -> Soon[Feed]:
        """Return the events that fit ``wanted``, as Engine says."""
        return self._once_known(wanted.task, lambda: self.parts.events.watch(wanted, after))

    def _once_known(self, task: str | None, act: Callable[[], Soon[Found]]) -> Soon[Found]:
        """Act on the jobs of a task. If this node does not know it, jobs may be left that no node can run."""
        if task is None or task in self.parts.names():
            return act()
        return then(self.parts.snapshots.renew(), lambda _: act())

    # Submitting.

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise if ``count`` jobs would be refused now, as Engine says."""
        self.parts.intake.check_room(count, payload_bytes)

    def replay(self, key: Key) -> Soon[Submitted | None]:
        """Return the job that was accepted under ``key``, as Engine says."""
        return self.parts.intake.replay(key)

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch | None]:
        """Return the batch that was accepted under ``key``, as Engine says."""
        return self.parts.intake.replay_batch(key)

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Accept a job, as Engine says."""
        return self.parts.intake.submit(submission, key)

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> Soon[SubmittedBatch]:
        """Accept jobs as a batch, as Engine says."""
        return self.parts.intake.submit_batch(submissions, key)

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> Soon[Submitted]:
        """Resubmit a failed job, as Engine says."""
        return self.parts.trail.after(self.parts.intake.retry(status, key), act, _made)

    def order(
        self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None
    ) -> Soon[Submitted]:
        """Accept an order about many jobs, as Engine says."""
        return self._once_known(
            wanted.task,
            lambda: self.parts.trail.after(
                self.parts.intake.order(self.parts.orders.group(action, wanted, key)), act, _made
            ),
        )

    def count_meant(self, action: Action, wanted: JobFilter) -> Soon[Mapping[str, int]]:
        """Return how many jobs an order would be about, as Engine says."""

        def count() -> Soon[Mapping[str, int]]:
            self.parts.orders.check(action, wanted)
            return Read(asyncio.ensure_future(self.parts.orders.count(action, wanted)))

        return self._once_known(wanted.task, count)

    # Acting.

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, as Engine says."""
        if self.catalogue.get(task) is None:
            return then(self.task(task), lambda found: None if found is None else self.switch(task, switches, act))
        self.parts.holds.check(task, switches)
        changed = Read(asyncio.ensure_future(self.store_of().answer(self.parts.holds.switch(task, switches))))
        return then(self.parts.trail.after(changed, act, lambda _, act: act), lambda _: self.task(task))

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> Soon[Status]:
        """Change a job that waits, as Engine says."""
        return self.parts.acts.revise(status, revision, act)

    def cancel(self, status: Status, act: Act | None = None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        return self.parts.acts.cancel(status, act)

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        return self.parts.acts.cancel_batch(batch, act)

    # Auditing.

    def note(self, act: Act) -> None:
        """Keep an act of the server itself, as Engine says."""
        self.parts.trail.note(act)

    def audit(self, before: int, limit: int) -> Soon[Sequence[AuditEntry]]:
        """Return entries of the audit log of all nodes, as Engine says."""
        return self.parts.trail.read(before, limit)

    # Counting.

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return when there is room for a request, as Engine says."""
        return self.hints.retry_after_s(seconds)

    def history(self, minutes: int) -> Soon[Sequence[Minute]]:
        """Return the last minutes of all nodes, as Engine says."""
        return self.parts.past.minutes(minutes)

    def counts(self) -> Soon[Counts]:
        """Return all counts, as Engine says."""
        return self.parts.counting.counts(self.waiting, draining=self.parts.intake.is_draining)

    # Life.

    async def start(self, on_fatal: Callable[[str], object]) -> None:
        """Reach the store, enter the lifespan, register the node and begin to run jobs, as Engine says."""
        self.store = store = self._at_store()
        try:
            await store.start()
        except ConfigError:
            self.store = None
            raise
        self.parts = Parts(self.config, self.registry, store, catalogue=self.catalogue, hints=self.hints)
        try:
            self.parts.hands.state = await self.lifespan.begin()
            try:
                await self.parts.hands.crew.workers.begin()
            except BaseException:
                await self.lifespan.end()
                raise
        except ConfigError:
            await self.close()
            self.store = None
            raise
        try:
            await self.parts.holds.start()
            await self.parts.hands.start()
            await self.catalogue.read()
            await self.parts.past.start()
        except (StoreError, HeadwayError) as error:
            await self.lifespan.end()
            raise ConfigError(f"engine: {self.address} was lost while the node started: {error}") from None
        self.parts.count_workers()
        self.parts.heartbeat.start()
        self.parts.watchdog.start()
        self.parts.chores.start()

    def _at_store(self) -> Store:
        return Store(
            self.address,
            f"headway:{os.getpid()}",
            on_push=lambda push: self.parts.pushed(push),
            on_invalid=lambda keys: self.parts.invalid(keys),
            on_up=lambda: self.parts.up(),
            on_renewed=lambda: self.parts.renewed(),
        )

    async def check(self) -> None:
        """Reach the store, and look at its layout. Raises ConfigError if a start would fail."""
        await self._at_store().check(CHECK_S)

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> int:
        """Accept no more jobs here and claim none. Wait for those that run here, as Engine says."""
        self.parts.intake.is_draining = self.parts.orders.is_draining = True
        self.hints.estimate.expect_end(time.monotonic())
        self.parts.cache.waiters.release()
        self.parts.batches.waiters.release()
        return await self.parts.hands.drain(timeout_s)

    def resume(self) -> None:
        """Accept jobs again after a drain that did not lead to an end."""
        self.parts.intake.is_draining = self.parts.orders.is_draining = False
        self.hints.estimate.expect_no_end()
        self.parts.hands.resume()

    def hand_over(self, file: BinaryIO) -> None:
        """Do nothing: the store has everything."""

    async def stop(self) -> None:
        """Put the jobs back that run, and leave the nodes. All facts can still be read."""
        self.parts.chores.stop()
        self.parts.watchdog.stop()
        await self.parts.hands.stop()
        with suppress(StoreError):
            await self.parts.past.stop()
        await self.parts.trail.stop()
        # In a thread: a beat that is under way is waited for.
        await asyncio.get_running_loop().run_in_executor(None, self.parts.heartbeat.stop)
        await self.parts.events.stop()
        await self.parts.holds.stop()
        await self.lifespan.end()

    async def close(self) -> None:
        """End the connections with the store."""
        if self.store is not None:
            await self.store.close()

    def store_of(self) -> Store:
        """Return the store, once the engine has started."""
        assert self.store is not None
        return self.store

    def _limit(self, task: str) -> int | None:
        card = self.catalogue.get(task)
        return None if card is None else card.max_concurrent


def _made(submitted: Submitted, act: Act) -> Act | None:
    """Return an act that a new job carries out."""
    return None if submitted.replayed else replace(act, goes_on=True, job=submitted.status.id.decode())
