"""What a node is made of once its store is reached, and what its parts tell each other."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from typing import Any

from headway.core.config import Config
from headway.core.nodes.hands import Hands
from headway.core.nodes.heartbeat import Heartbeat, client_of
from headway.core.nodes.node import Node
from headway.core.order import OWN_MOST
from headway.core.status import Status
from headway.core.store.groups import SubmitBounds, SubmitReply
from headway.core.store.record import Facts
from headway.core.store.store import Store
from headway.core.task import Lane
from headway.core.tasks.registry import Registry
from headway.core.valkey.acts import Acts
from headway.core.valkey.batches import SharedBatches
from headway.core.valkey.cache import Cache
from headway.core.valkey.catalogue import Catalogue
from headway.core.valkey.details import Details
from headway.core.valkey.hints import Hints
from headway.core.valkey.intake import Intake
from headway.core.valkey.node_chores import NodeChores
from headway.core.valkey.shared_audit import SharedAudit
from headway.core.valkey.shared_counting import SharedCounting
from headway.core.valkey.shared_events import SharedEvents
from headway.core.valkey.shared_finding import SharedFinding
from headway.core.valkey.shared_history import SharedHistory
from headway.core.valkey.shared_holds import SharedHolds
from headway.core.valkey.shared_orders import SharedOrders
from headway.core.valkey.snapshot import Snapshots
from headway.core.valkey.statuses import Statuses
from headway.core.valkey.submissions import Submissions
from headway.core.work.watchdog import Watchdog


class Parts:
    """All that needs the store. The parts are made in the order in which they need each other."""

    def __init__(self, config: Config, registry: Registry, store: Store, *, catalogue: Catalogue, hints: Hints) -> None:
        self.store = store
        self.registry = registry
        self.catalogue = catalogue
        self.hints = hints
        self.holds = SharedHolds(store, self._switched)
        self.cache = Cache(store)
        self.cache.on_end = self._saw
        self.snapshots = Snapshots(store, lambda: self.holds.held)
        self.catalogue.use(store)
        self.statuses = Statuses(store, self.cache, self.snapshots, hints)
        self.batches = SharedBatches(store, hints)
        self.details = Details(store, self.cache, self.statuses, self._place)
        self.events = SharedEvents(store, config.events, self.names, hints.retry_after_s)
        self.finding = SharedFinding(store, self.names, lambda: self.catalogue.all, self._describe)
        places = [(keys, store.link(keys)) for keys in store.keys]
        node = Node(places, store.home, self.catalogue.encoded())
        self.hands = hands = Hands(config, registry, store.ids, node)
        hands.membership.on_misplaced = self._repair
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
        hands.employ(self.orders.tasks, OWN_MOST)
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
            lambda: client_of(store.address, f"{os.getpid()}:heartbeat"),
            node.name,
            [(exchange.keys, lambda exchange=exchange: exchange.is_fit) for exchange in hands.exchanges],  # type: ignore[misc]
            alive_ms=node.alive_ms,
        )
        node.on_name = self._named
        self.watchdog = Watchdog(config.watchdog.stall, hands.crew.workers.holder)
        self.counting = SharedCounting(
            store,
            registry.by_name,
            queue_size=config.queue.size,
            catalogue=self.catalogue,
            snapshots=self.snapshots,
            hints=hints,
            hands=hands,
            cache=self.cache,
            holds=self.holds,
            events=self.events,
            watchdog=self.watchdog,
        )
        chores = (catalogue.tick, self.count_workers, self.events.tick, self.submissions.look_for_room, self.past.tick)
        self.chores = NodeChores(store, chores, kept=hands.kept, keys=config.idempotency.keys)

    def names(self) -> Collection[str]:
        """Return the tasks that a job may have: those of live nodes, and those of jobs that were ever submitted."""
        last = self.snapshots.last
        return self.catalogue.all.keys() | self.orders.tasks.keys() | last.unfinished.keys() | last.ended.keys()

    def count_workers(self) -> None:
        """Tell the estimates of the workers of all nodes."""
        self.hints.estimate.workers = self.catalogue.workers

    # Called by the store.

    def pushed(self, push: list[Any]) -> None:
        """Take what the store says by itself."""
        if push[0] == b"smessage":
            self.hands.heard(push[1], push[2])

    def invalid(self, keys: list[bytes] | None) -> None:
        """Forget what was read of ``keys``, None for all."""
        self.cache.invalid(keys)
        self.batches.invalid(keys)
        self.details.invalid(keys)
        if keys is None or any(key.endswith((b"}:hold", b"}:ev")) for key in keys):
            self.holds.look()
            self.events.look()

    def up(self) -> None:
        """Go on after a link to the store was lost."""
        self.cache.up()
        self.batches.up()
        self.details.up()
        self.submissions.up()
        self.hands.up()
        self.heartbeat.beat()
        self.holds.look()
        self.events.up()
        self.trail.send()

    def renewed(self) -> None:
        """Go on with the ids of a store that was emptied."""
        self.hands.ids = self.store.ids
        self.cache.renew()
        self.batches.waiters.release()
        self.events.up()
        self.trail.send()
        self.holds.look()

    # Called by each other.

    async def _repair(self) -> None:
        """Learn or make the ids of a store that was emptied. Raises StoreError or ConfigError."""
        await asyncio.shield(self.store.renew())
        self.hands.ids = self.store.ids

    def _named(self, name: str) -> None:
        self.heartbeat.name = name

    def _switched(self, task: str) -> None:
        self.snapshots.held()
        self.snapshots.changed()
        self.cache.forget_hints(task)

    def _submitted(self, reply: SubmitReply) -> None:
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

    def _place(self, task: str) -> str:
        card = self.catalogue.get(task)
        return Lane.LOOP.value if card is None else card.run_in
