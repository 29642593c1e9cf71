"""The counts of the queue and its tasks. What waits and runs is of all nodes, workers and clients are of this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headway.core.errors import EngineAwayError
from headway.core.interface import Soon
from headway.core.job import State
from headway.core.later import Read, Then, then
from headway.core.nodes.hands import Hands
from headway.core.stats import Counts, Histogram, ProcessCounts, StoreCounts, WorkerCounts
from headway.core.status import TaskStatus
from headway.core.store.store import Store
from headway.core.task import Task
from headway.core.valkey.cache import Cache
from headway.core.valkey.catalogue import Card, Catalogue
from headway.core.valkey.hints import Hints
from headway.core.valkey.shared_events import SharedEvents
from headway.core.valkey.shared_holds import SharedHolds
from headway.core.valkey.snapshot import Snapshot, Snapshots
from headway.core.work.watchdog import Watchdog

# Bytes of the facts of a job that are kept here.
KNOWN_BYTES = 700


class SharedCounting:
    """Counts by the last snapshot of the queue. ``known`` are the tasks of this node, by name."""

    def __init__(
        self,
        store: Store,
        known: Mapping[str, Task],
        *,
        queue_size: int,
        catalogue: Catalogue,
        snapshots: Snapshots,
        hints: Hints,
        hands: Hands,
        cache: Cache,
        holds: SharedHolds,
        events: SharedEvents,
        watchdog: Watchdog,
    ) -> None:
        self._store = store
        self._known = known
        self._queue_size = queue_size
        self._catalogue = catalogue
        self._snapshots = snapshots
        self._hints = hints
        self._hands = hands
        self._cache = cache
        self._holds = holds
        self._events = events
        self._watchdog = watchdog

    def tasks(self) -> Soon[Sequence[TaskStatus]]:
        """Return the tasks of all nodes, as Engine says."""
        return then(
            self._counted(), lambda snapshot: [self._task(card, snapshot) for card in self._catalogue.all.values()]
        )

    def task(self, name: str) -> Soon[TaskStatus | None]:
        """Return a task of any node, as Engine says."""
        card = self._catalogue.get(name)
        if card is not None:
            return then(self._counted(), lambda snapshot: self._task(card, snapshot))
        return Then(
            Read(self._catalogue.look()), lambda _: self.task(name) if self._catalogue.get(name) is not None else None
        )

    def counts(self, waiting_clients: int, *, draining: bool) -> Soon[Counts]:
        """Return all counts: of the queue those of all nodes, of workers and clients those of this one."""
        return then(self._counted(), lambda snapshot: self._counts(snapshot, waiting_clients, draining=draining))

    def _counted(self) -> Soon[Snapshot]:
        """Return the present counts. While the store is away they are those of before."""
        try:
            return self._snapshots.renew()
        except EngineAwayError:
            return self._snapshots.last

    def _counts(self, snapshot: Snapshot, waiting_clients: int, *, draining: bool) -> Counts:
        hands, store = self._hands, self._store
        workers, stats = hands.crew.workers, hands.stats
        pool, size_bytes = workers.processes, len(self._cache) * KNOWN_BYTES
        return Counts(
            jobs=[*snapshot.jobs],
            active=snapshot.active,
            load=self._hints.together([*self._catalogue.all], snapshot),
            waiting=snapshot.waiting,
            held=snapshot.held(snapshot.now_ms / 1000),
            queue_size=self._queue_size,
            payload_bytes=snapshot.payload_bytes,
            retries=snapshot.retries,
            run_mean_s=self._hints.estimate.mean_so_far,
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
            loop_lag=self._watchdog.lag,
            loop_stalls=self._watchdog.stalls,
            journal=None,
            waiting_clients=waiting_clients,
            readers=len(self._events),
            draining=draining,
            store=StoreCounts(
                up=store.is_up,
                step_age_s=hands.step_age_s,
                reconnects=max(store.made - len(store.keys), 0),
                round_trips=store.writes,
                cache_hits=self._cache.hits,
                cache_misses=self._cache.misses,
                outbox=sum(len(exchange.outbox) for exchange in hands.exchanges),
                fenced=hands.fences.count,
                reclaimed=hands.reclaimed,
                nodes=len(snapshot.nodes),
            ),
            last_end=stats.last_end,
        )

    def _task(self, card: Card, snapshot: Snapshot) -> TaskStatus:
        ended = snapshot.ended.get(card.name, [0] * len(State))
        known, stats = self._known.get(card.name), self._hands.stats
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
            run_median_s=self._hints.estimate.median(self._hints.index(card.name)),
            load=self._hints.load(card.name, snapshot),
            # Of the attempts of this node.
            wait=Histogram() if known is None else stats.wait[known.index],
            run=Histogram() if known is None else stats.run[known.index],
            hold=self._holds.of(card.name),
        )
