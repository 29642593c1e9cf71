"""The engine on Valkey: many nodes, each of which accepts jobs, runs jobs and knows all jobs.

Each call asks the store, or goes by what the store has said of a change. So what a client is told
at one node holds at all of them. The store decides: a script accepts jobs, claims them and ends
them, each in one step.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from headway.core.audit import Act, AuditEntry
from headway.core.board.idempotency import Key
from headway.core.body import Body
from headway.core.config import Config
from headway.core.durability import Durability
from headway.core.errors import ConfigError, EngineAwayError, HeadwayError
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
from headway.core.job import Revision, State, Submission
from headway.core.job_filter import JobFilter
from headway.core.job_log import JobLog
from headway.core.later import Read, Then, then
from headway.core.link.address import Address
from headway.core.link.reply_error import StoreError
from headway.core.nodes.hands import Hands
from headway.core.nodes.heartbeat import Heartbeat, client_of
from headway.core.nodes.node import Node
from headway.core.order import Action
from headway.core.past_attempt import PastAttempt
from headway.core.stats import Counts, Histogram, ProcessCounts, StoreCounts, WorkerCounts
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.store.changes import read_trimmed, trim_arguments
from headway.core.store.groups import SubmitBounds, SubmitReply
from headway.core.store.keys import Keyspace
from headway.core.store.record import Facts
from headway.core.store.scripts import TRIM
from headway.core.store.store import Store
from headway.core.task import Lane
from headway.core.tasks.lifespan import Lifespan
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.valkey.acts import Acts
from headway.core.valkey.batches import SharedBatches
from headway.core.valkey.cache import Cache
from headway.core.valkey.catalogue import Card, Catalogue
from headway.core.valkey.details import Details
from headway.core.valkey.hints import Hints
from headway.core.valkey.intake import Intake
from headway.core.valkey.shared_audit import SharedAudit
from headway.core.valkey.shared_events import SharedEvents
from headway.core.valkey.shared_finding import SharedFinding
from headway.core.valkey.shared_history import SharedHistory
from headway.core.valkey.shared_holds import SharedHolds
from headway.core.valkey.shared_orders import SharedOrders
from headway.core.valkey.snapshot import Snapshot, Snapshots
from headway.core.valkey.statuses import Statuses
from headway.core.valkey.submissions import Submissions
from headway.core.work.attempt import variables_of
from headway.core.work.watchdog import Watchdog
from msgspec.structs import replace

log = logging.getLogger(__name__)

# What comes of a look.
Found = TypeVar("Found")

# For a default in the class, which has a ``log`` of its own.
TELL_FATAL = log.critical
# Seconds between two rounds of the chores, less up to a fifth at random.
CHORES_S = 1.0
# Calls of a round that forget facts that are over, at most, in each partition.
TRIMS = 20
# Seconds for which a check waits for a store that is not there.
CHECK_S = 2.0
# Orders that a node carries out at once.
ORDERS_AT_ONCE = 16
# Bytes of the facts of a job that are kept here.
KNOWN_BYTES = 700


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
        # Set by ``start``, in the order of their making.
        self.store: Store | None = None
        self.holds: SharedHolds
        self.cache: Cache
        self.snapshots: Snapshots
        self.statuses: Statuses
        self.batches: SharedBatches
        self.details: Details
        self.events: SharedEvents
        self.finding: SharedFinding
        self.submissions: Submissions
        self.hands: Hands
        self.heartbeat: Heartbeat
        self.orders: SharedOrders
        self.intake: Intake
        self.acts: Acts
        self.trail: SharedAudit
        self.past: SharedHistory
        self.watchdog: Watchdog
        self._chores: asyncio.Task[None] | None = None
        # Partitions to the place at which ``trim`` goes on.
        self._trimmed: dict[int, int] = {}

    @property
    def durability(self) -> Durability:
        """What an accepted job survives."""
        return "process" if self.store is None else self.store.durability

    @property
    def waiting(self) -> int:
        """How many clients wait, as Engine says."""
        return len(self.cache.waiters) + len(self.batches.waiters)

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here; None if they are."""
        if self.store is None or not self.store.keys:
            return "the store is not reached yet"
        if self.intake.is_draining:
            return "draining"
        if self.hands.why:
            return self.hands.why
        if self.heartbeat.is_missed:
            return f"the heartbeat does not reach the store: {self.heartbeat.why}"
        if self.submissions.full is not None:
            return "the store is full: it has reached its maxmemory"
        workers = self.hands.crew.workers
        if workers.threads.lost > self.config.limits.lost_threads:
            return f"{workers.threads.lost} threads are lost to tasks that do not return. Restart the server."
        if workers.processes is not None and not workers.processes.up:
            return "no worker process is up"
        return None

    # Reading.

    def peek(self, job_id: bytes) -> Soon[Status | None]:
        """Return the status of a job, as Engine says."""
        return self.statuses.peek(job_id)

    def peek_key(self, key: str) -> Soon[Status | None]:
        """Return the status of the job under a key, as Engine says."""
        return self.statuses.peek_key(key)

    def peek_batch(self, batch_id: bytes) -> Soon[BatchStatus | None]:
        """Return the status of a batch, as Engine says."""
        return self.batches.peek(batch_id)

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        return self._once_known(wanted.task, lambda: self.finding.find(wanted, after, limit))

    def recent_batches(self) -> Soon[Sequence[BatchStatus]]:
        """Return the last batches, as Engine says."""
        return self.batches.recent()

    def list_batch(self, batch: BatchStatus) -> Soon[Sequence[tuple[bytes, int]]]:
        """Return (id, state) of the jobs of a batch, as Engine says."""
        return self.batches.jobs(batch)

    def tasks(self) -> Soon[Sequence[TaskStatus]]:
        """Return the tasks of all nodes, as Engine says."""
        return then(
            self._counted(), lambda snapshot: [self._task(card, snapshot) for card in self.catalogue.all.values()]
        )

    def task(self, name: str) -> Soon[TaskStatus | None]:
        """Return a task of any node, as Engine says."""
        card = self.catalogue.get(name)
        if card is not None:
            return then(self._counted(), lambda snapshot: self._task(card, snapshot))
        return Then(
            Read(self.catalogue.look()), lambda _: self.task(name) if self.catalogue.get(name) is not None else None
        )

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
        return self.details.log(status)

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of an active job once its log has grown, as Engine says."""
        return self.details.wait_log(status, length, self._patience(seconds))

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of an active job once it has finished, as Engine says."""
        return self.statuses.wait(status, self._patience(seconds))

    def wait_batch(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a pending batch once its jobs have finished, as Engine says."""
        return self.batches.wait(batch, self._patience(seconds))

    def _patience(self, seconds: float) -> float:
        return 0.0 if self.intake.is_draining else seconds

    def watch(self, wanted: EventFilter, after: int | None = None) -> Soon[Feed]:
        """Return the events that fit ``wanted``, as Engine says."""
        return self._once_known(wanted.task, lambda: self.events.watch(wanted, after))

    def _names(self) -> Collection[str]:
        """The tasks that a job may have: those of live nodes, and those of jobs that were ever submitted."""
        last = self.snapshots.last
        return self.catalogue.all.keys() | self.orders.tasks.keys() | last.unfinished.keys() | last.ended.keys()

    def _once_known(self, task: str | None, act: Callable[[], Soon[Found]]) -> Soon[Found]:
        """Act on the jobs of a task. If this node does not know it, jobs may be left that no node can run."""
        if task is None or task in self._names():
            return act()
        return then(self.snapshots.renew(), lambda _: act())

    # Submitting.

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise if ``count`` jobs would be refused now, as Engine says."""
        self.intake.check_room(count, payload_bytes)

    def replay(self, key: Key) -> Soon[Submitted | None]:
        """Return the job that was accepted under ``key``, as Engine says."""
        return self.intake.replay(key)

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch | None]:
        """Return the batch that was accepted under ``key``, as Engine says."""
        return self.intake.replay_batch(key)

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Accept a job, as Engine says."""
        return self.intake.submit(submission, key)

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> Soon[SubmittedBatch]:
        """Accept jobs as a batch, as Engine says."""
        return self.intake.submit_batch(submissions, key)

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> Soon[Submitted]:
        """Resubmit a failed job, as Engine says."""
        return self.trail.after(self.intake.retry(status, key), act, _made)

    def order(
        self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None
    ) -> Soon[Submitted]:
        """Accept an order about many jobs, as Engine says."""
        return self._once_known(
            wanted.task,
            lambda: self.trail.after(self.intake.order(self.orders.group(action, wanted, key)), act, _made),
        )

    def count_meant(self, action: Action, wanted: JobFilter) -> Soon[Mapping[str, int]]:
        """Return how many jobs an order would be about, as Engine says."""

        def count() -> Soon[Mapping[str, int]]:
            self.orders.check(action, wanted)
            return Read(asyncio.ensure_future(self.orders.count(action, wanted)))

        return self._once_known(wanted.task, count)

    # Acting.

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, as Engine says."""
        if self.catalogue.get(task) is None:
            return then(self.task(task), lambda found: None if found is None else self.switch(task, switches, act))
        self.holds.check(task, switches)
        changed = Read(asyncio.ensure_future(self.store_of().answer(self.holds.switch(task, switches))))
        return then(self.trail.after(changed, act, lambda _, act: act), lambda _: self.task(task))

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> Soon[Status]:
        """Change a job that waits, as Engine says."""
        return self.acts.revise(status, revision, act)

    def cancel(self, status: Status, act: Act | None = None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        return self.acts.cancel(status, act)

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        return self.acts.cancel_batch(batch, act)

    # Auditing.

    def note(self, act: Act) -> None:
        """Keep an act of the server itself, as Engine says."""
        self.trail.note(act)

    def audit(self, before: int, limit: int) -> Soon[Sequence[AuditEntry]]:
        """Return entries of the audit log of all nodes, as Engine says."""
        return self.trail.read(before, limit)

    # Counting.

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return when there is room for a request, as Engine says."""
        return self.hints.estimate.pace.promise(time.monotonic(), seconds)

    def history(self, minutes: int) -> Soon[Sequence[Minute]]:
        """Return the last minutes of all nodes, as Engine says."""
        return self.past.minutes(minutes)

    def counts(self) -> Soon[Counts]:
        """Return all counts: of the queue those of all nodes, of workers and clients those of this one."""
        return then(self._counted(), self._counts)

    def _counted(self) -> Soon[Snapshot]:
        """Return the present counts. While the store is away they are those of before."""
        try:
            return self.snapshots.renew()
        except EngineAwayError:
            return self.snapshots.last

    def _counts(self, snapshot: Snapshot) -> Counts:
        hands, store = self.hands, self.store_of()
        workers, stats = hands.crew.workers, hands.stats
        pool, size_bytes = workers.processes, len(self.cache) * KNOWN_BYTES
        return Counts(
            jobs=[*snapshot.jobs],
            active=snapshot.active,
            load=self.hints.together([*self.catalogue.all], snapshot),
            waiting=snapshot.waiting,
            held=snapshot.held(snapshot.now_ms / 1000),
            queue_size=self.config.queue.size,
            payload_bytes=snapshot.payload_bytes,
            retries=snapshot.retries,
            wait=Histogram.together(stats.wait),
            run=Histogram.together(stats.run),
            run_mean_s=self.hints.estimate.mean_so_far,
            # Results stay as long as their jobs.
            results_kept=snapshot.kept,
            results_bytes=0,
            results_max_bytes=0,
            results_evicted=0,
            rows=0,
            row_bytes=0,
            memory_bytes=size_bytes,
            workers=WorkerCounts(workers.count, workers.idle, workers.replacements, workers.threads.lost),
            processes=None
            if pool is None
            else ProcessCounts(pool.up, pool.pids, pool.restarts, pool.killed, pool.recycled),
            loop_lag=self.watchdog.lag,
            loop_stalls=self.watchdog.stalls,
            journal=None,
            waiting_clients=self.waiting,
            readers=len(self.events),
            draining=self.intake.is_draining,
            store=StoreCounts(
                up=store.is_up,
                step_age_s=hands.step_age_s,
                reconnects=max(store.made - len(store.keys), 0),
                round_trips=store.writes,
                cache_hits=self.cache.hits,
                cache_misses=self.cache.misses,
                outbox=sum(len(exchange.outbox) for exchange in hands.exchanges),
                fenced=hands.fenced,
                reclaimed=hands.reclaimed,
                nodes=len(snapshot.nodes),
            ),
        )

    def _task(self, card: Card, snapshot: Snapshot) -> TaskStatus:
        ended = snapshot.ended.get(card.name, [0] * len(State))
        known, stats = self.registry.by_name.get(card.name), self.hands.stats
        return TaskStatus(
            name=card.name,
            description=card.description,
            schema=card.schema,
            timeout_s=card.timeout_s,
            deadline_s=card.deadline_s,
            retries=card.retries,
            keep_s=card.keep_s,
            max_concurrent=card.max_concurrent,
            run_in=card.run_in,
            unfinished=snapshot.unfinished.get(card.name, 0),
            running=snapshot.busy.get(card.name, 0),
            succeeded=ended[State.SUCCEEDED],
            failed=ended[State.FAILED],
            cancelled=ended[State.CANCELLED],
            run_median_s=self.hints.estimate.median(self.hints.index(card.name)),
            load=self.hints.load(card.name, snapshot),
            # Of the attempts of this node.
            wait=Histogram() if known is None else stats.wait[known.index],
            run=Histogram() if known is None else stats.run[known.index],
            hold=self.holds.of(card.name),
        )

    # Life.

    async def start(self, on_fatal: Callable[[str], object] = TELL_FATAL) -> None:
        """Reach the store, enter the lifespan, register the node and begin to run jobs, as Engine says."""
        self.store = store = self._at_store()
        try:
            await store.start()
        except ConfigError:
            self.store = None
            raise
        self._make(store)
        self.hands.state = await self.lifespan.begin()
        try:
            await self.holds.start()
            await self.hands.start()
            await self.catalogue.read()
            await self.past.start()
        except (StoreError, HeadwayError) as error:
            await self.lifespan.end()
            raise ConfigError(f"engine: {self.address} was lost while the node started: {error}") from None
        self._count_workers()
        self.heartbeat.start()
        self.watchdog.start()
        self._chores = asyncio.get_running_loop().create_task(self._do_chores())

    def _at_store(self) -> Store:
        return Store(
            self.address,
            f"headway:{os.getpid()}",
            on_push=self._pushed,
            on_invalid=self._invalid,
            on_up=self._up,
            on_renewed=self._renewed,
        )

    async def check(self) -> None:
        """Reach the store, and look at its layout. Raises ConfigError if a start would fail."""
        await self._at_store().check(CHECK_S)

    def _make(self, store: Store) -> None:
        """Make all that needs the store."""
        config, registry, hints = self.config, self.registry, self.hints
        self.holds = SharedHolds(store, self._switched)
        self.cache = Cache(store)
        self.cache.on_end = self._saw
        self.snapshots = Snapshots(store, lambda: self.holds.held)
        self.catalogue.use(store)
        self.statuses = Statuses(store, self.cache, self.snapshots, hints)
        self.batches = SharedBatches(store, hints)
        self.details = Details(store, self.cache, self.statuses, self._place)
        self.events = SharedEvents(store, config.events, self._names, self.retry_after_s)
        self.finding = SharedFinding(store, self._names, lambda: self.catalogue.all, self._describe)
        places = [(keys, store.link(keys)) for keys in store.keys]
        node = Node(places, store.home, self.catalogue.encoded())
        self.hands = hands = Hands(config, registry, store.ids, node)
        hands.on_misplaced = self._repair
        hands.on_ran = self._ran
        hands.on_change = self.snapshots.claimed
        self.past = SharedHistory(store, hands.stats, lambda: node.name, self.snapshots.anew)
        partitions = store.partitions
        bounds = SubmitBounds(
            # Of each partition. If there are several, a node looks at their sum, too.
            size=config.queue.size,
            payload_bytes=config.queue.max_bytes,
            key_ms=round(config.idempotency.seconds * 1000),
            keys=-(-config.idempotency.keys // partitions),
        )
        self.orders = SharedOrders(store, self.finding, hands, registry.by_name, bounds=bounds, kept=hands.kept)
        hands.employ(self.orders.tasks, ORDERS_AT_ONCE)
        self.submissions = Submissions(store, hands, bounds)
        self.submissions.on_reply(self._submitted)
        self.intake = Intake(
            config,
            registry,
            store,
            catalogue=self.catalogue,
            statuses=self.statuses,
            batches=self.batches,
            snapshots=self.snapshots,
            hints=hints,
            submissions=self.submissions,
        )
        self.trail = SharedAudit(store, config.audit.kept)
        self.acts = Acts(
            store, self.statuses, self.batches, kept=hands.kept, ending=hands.remarks.flush, trail=self.trail
        )
        self.heartbeat = Heartbeat(
            lambda: client_of(self.address, f"{os.getpid()}:heartbeat"),
            node.name,
            [(exchange.keys, lambda exchange=exchange: exchange.is_fit) for exchange in hands.exchanges],  # type: ignore[misc]
            alive_ms=node.alive_ms,
        )
        node.on_name = self._named
        self.watchdog = Watchdog(config.watchdog.stall, hands.crew.workers.holder)

    async def drain(self, timeout_s: float) -> int:
        """Accept no more jobs here and claim none. Wait for those that run here, as Engine says."""
        self.intake.is_draining = self.orders.is_draining = True
        self.hints.estimate.expect_end(time.monotonic())
        self.cache.waiters.release()
        self.batches.waiters.release()
        return await self.hands.drain(timeout_s)

    def resume(self) -> None:
        """Accept jobs again after a drain that did not lead to an end."""
        self.intake.is_draining = self.orders.is_draining = False
        self.hints.estimate.expect_no_end()
        self.hands.resume()

    async def stop(self) -> None:
        """Put the jobs back that run, and leave the nodes. All facts can still be read."""
        if self._chores is not None:
            self._chores.cancel()
        self.watchdog.stop()
        await self.hands.stop()
        with suppress(StoreError):
            await self.past.stop()
        await self.trail.stop()
        # In a thread: a beat that is under way is waited for.
        await asyncio.get_running_loop().run_in_executor(None, self.heartbeat.stop)
        await self.events.stop()
        await self.holds.stop()
        await self.lifespan.end()

    async def close(self) -> None:
        """End the connections with the store."""
        if self.store is not None:
            await self.store.close()

    def store_of(self) -> Store:
        """Return the store, once the engine has started."""
        assert self.store is not None
        return self.store

    # Called by its parts.

    def _pushed(self, push: list[Any]) -> None:
        if push[0] == b"smessage":
            self.hands.heard(push[1], push[2])

    def _invalid(self, keys: list[bytes] | None) -> None:
        self.cache.invalid(keys)
        self.batches.invalid(keys)
        self.details.invalid(keys)
        if keys is None or any(key.endswith((b"}:hold", b"}:ev")) for key in keys):
            self.holds.look()
            self.events.look()

    def _up(self) -> None:
        self.cache.up()
        self.batches.up()
        self.details.up()
        self.submissions.up()
        self.hands.up()
        self.heartbeat.beat()
        self.holds.look()
        self.events.up()
        self.trail.send()

    def _renewed(self) -> None:
        self.hands.ids = self.store_of().ids
        self.cache.renew()
        self.batches.waiters.release()
        self.events.up()
        self.trail.send()
        self.holds.look()

    async def _repair(self) -> None:
        """Learn or make the ids of a store that was emptied. Raises StoreError or ConfigError."""
        await asyncio.shield(self.store_of().renew())
        self.hands.ids = self.store_of().ids

    def _named(self, name: str) -> None:
        self.heartbeat.name = name

    def _switched(self, task: str) -> None:
        self.snapshots.held()
        self.snapshots.changed()
        self.cache.forget_hints(task)

    def _submitted(self, keys: Keyspace, reply: SubmitReply) -> None:
        self.snapshots.learn(reply.waiting, reply.payload_bytes)
        self.snapshots.changed()

    def _saw(self, facts: Facts) -> None:
        if facts.node.decode() != self.hands.name:
            self.hints.saw(facts)

    def _ran(self, task: str, seconds: float) -> None:
        if task in self.registry.by_name:
            self.hints.estimate.observe(self.hints.index(task), seconds, time.monotonic())

    def _describe(self, sequence: int, facts: Facts) -> Status:
        return self.statuses.describe(sequence, facts)

    def _limit(self, task: str) -> int | None:
        card = self.catalogue.get(task)
        return None if card is None else card.max_concurrent

    def _place(self, task: str) -> str:
        card = self.catalogue.get(task)
        return Lane.LOOP.value if card is None else card.run_in

    def _count_workers(self) -> None:
        self.hints.estimate.workers = self.catalogue.workers

    # Chores.

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(CHORES_S * random.uniform(0.8, 1.0))  # noqa: S311
            try:
                self.catalogue.tick()
                self._count_workers()
                self.events.tick()
                await self.submissions.look_for_room()
                await self.past.tick()
                await self._trim()
            except StoreError as error:
                log.debug("engine: chores have to wait: %s", error)
            except Exception:
                log.exception("engine: a chore failed, it is tried again in %g s", CHORES_S)

    async def _trim(self) -> None:
        """Have the store forget the facts that are over, as far as it does not by itself."""
        store = self.store_of()
        for keys in store.keys:
            for _ in range(TRIMS):
                if not store.is_up_at(keys.partition):
                    break
                words = trim_arguments(
                    b"",
                    kept=self.hands.kept,
                    keys=-(-self.config.idempotency.keys // store.partitions),
                    partitions=store.partitions,
                    cursor=self._trimmed.get(keys.partition, -1),
                )[1:]
                trimmed = read_trimmed(await store.run(keys, TRIM, *words))
                self._trimmed[keys.partition] = trimmed.cursor
                if not trimmed.more:
                    break


def _made(submitted: Submitted, act: Act) -> Act | None:
    """Return an act that a new job carries out."""
    return None if submitted.replayed else replace(act, goes_on=True, job=submitted.status.id.decode())
