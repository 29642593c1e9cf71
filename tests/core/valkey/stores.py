"""Stores without an engine, each as a node has one, for tests of what nodes share: events, switches, finding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headway.core.config import EventsSection
from headway.core.events import Event, EventFilter
from headway.core.interface import Feed
from headway.core.job import Terms
from headway.core.job_filter import JobFilter
from headway.core.link.address import Address
from headway.core.store.groups import Accepted, NewJob, SubmitBounds, SubmitGroup, read_submitted, submit_arguments
from headway.core.store.record import encode_record
from headway.core.store.scripts import SUBMIT
from headway.core.store.store import Store
from headway.core.valkey.shared_events import SharedEvents
from headway.core.valkey.shared_finding import SharedFinding
from headway.core.valkey.shared_holds import SharedHolds

from tests.core.engines import known

BOUNDS = SubmitBounds(size=1_000_000, payload_bytes=1 << 40, key_ms=60_000, keys=1000)
NODE = b"node"
EVERYTHING = EventFilter()
PATIENCE_S = 10.0


class Reached:
    """A store as one node reaches it, with what it knows of events and switches."""

    def __init__(self, url: str, kept: int = 10_000) -> None:
        self.store = Store(
            Address.of(url),
            "test",
            on_push=lambda _: None,
            on_invalid=self._invalid,
            on_up=self._up,
            on_renewed=self._up,
        )
        self._kept = kept
        self.changed: list[str] = []
        self.events: SharedEvents
        self.holds: SharedHolds
        self.finding: SharedFinding
        self._calls = 0

    async def start(self) -> None:
        await self.store.start()
        for keys in self.store.keys:
            await self.store.call(keys, "SADD", keys.nodes, NODE)
        self.events = SharedEvents(self.store, EventsSection(kept=self._kept), lambda: ["double", "other"], lambda: 1.0)
        self.holds = SharedHolds(self.store, self.changed.append)
        ids = self.store.ids
        self.finding = SharedFinding(
            self.store,
            lambda: ["double", "other"],
            lambda: ["double", "other"],
            lambda sequence, facts: facts.status(sequence, ids.write(sequence, ids.tag(sequence))),
        )
        await self.holds.start()

    def _invalid(self, keys: list[bytes] | None) -> None:
        for key in keys or ():
            if key.endswith(b":ev"):
                self.events.look()
            elif key.endswith(b":hold"):
                self.holds.look()

    def _up(self) -> None:
        self.events.up()

    async def stop(self) -> None:
        await self.holds.stop()
        await self.events.stop()
        await self.store.close()

    async def submit(self, count: int = 1, task: str = "double", partition: int = 0, **members: Any) -> list[int]:
        """Submit jobs together, and return their numbers."""
        keys, store = self.store.keys[partition], self.store
        record = encode_record(Terms(timeout_s=60.0, retries=0), b"1")
        job = NewJob(task=task, record=record, payload_bytes=1, **members)
        group = SubmitGroup([job] * count, "batch" if count > 1 else "job")
        words = submit_arguments(b"", NODE, 0, [group], bounds=BOUNDS, partitions=store.partitions)
        (answer,) = read_submitted(await store.run(keys, SUBMIT, *words[1:])).answers
        assert isinstance(answer, Accepted), answer
        return [answer.first + number * store.partitions for number in range(count)]

    async def found(self, limit: int = 50, **wanted: Any) -> list[int]:
        """Return the numbers of all jobs that fit, page by page. Each page goes on below the one before."""
        jobs: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await known(self.finding.find(JobFilter(**wanted), after, limit))
            assert len(page.jobs) <= limit
            assert page.after is None or not after or page.after < after
            jobs += [job.sequence for job in page.jobs]
            after = page.after
        return jobs

    async def reads(self, wanted: EventFilter = EVERYTHING, after: int | None = None) -> Gathered:
        """Read events from now on."""
        return Gathered(self, await known(self.events.watch(wanted, after)))


class Gathered:
    """The events that a reader took."""

    def __init__(self, reached: Reached, feed: Feed) -> None:
        self._ids = reached.store.ids
        self.feed = feed
        self.events: list[Event] = []
        self.missed = 0
        self._grown = asyncio.Event()
        feed.when_more(self._take)

    def _take(self) -> None:
        taken = self.feed.take()
        self.missed += taken.missed
        self.events += taken.events
        self._grown.set()

    @property
    def jobs(self) -> list[int]:
        """The numbers of their jobs."""
        return [self._ids.read(event.job)[0] for event in self.events]

    @property
    def numbers(self) -> list[int]:
        """Their own numbers."""
        return [event.number for event in self.events]

    async def has(self, *jobs: int, missed: int = 0) -> None:
        """Wait for the events of these jobs, in this order, and see that no other follows."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.events) < len(jobs) or self.missed < missed:
                self._grown.clear()
                await self._grown.wait()
        await asyncio.sleep(0.1)
        assert (self.jobs, self.missed) == (list(jobs), missed)
        assert self.numbers == sorted(set(self.numbers))


@asynccontextmanager
async def reached(url: str, kept: int = 10_000) -> AsyncIterator[Reached]:
    """Reach a store as a node does."""
    found = Reached(url, kept)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
