"""Nodes without an engine, for tests of all that holds and runs jobs. They submit by the script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from headway.core.config import Config
from headway.core.ids import Ids
from headway.core.job import Terms
from headway.core.link.address import Address
from headway.core.link.link import Link
from headway.core.link.reply_error import StoreError
from headway.core.nodes.hands import Hands
from headway.core.nodes.heartbeat import Heartbeat, client_of
from headway.core.nodes.node import Node
from headway.core.nodes.reaper import MISSING_S
from headway.core.retention import DEFAULT
from headway.core.store.changes import CancelAnswer, CancelMode, cancel_arguments, read_cancelled
from headway.core.store.groups import Accepted, NewJob, SubmitBounds, SubmitGroup, read_submitted, submit_arguments
from headway.core.store.keys import Keyspace
from headway.core.store.record import FIELDS, Facts, encode_record, read_facts
from headway.core.store.scripts import CANCEL, SUBMIT
from headway.core.tasks.registry import Options, Registry

from tests.core.engines import settings

# All nodes of a test have the ids of one store.
IDS = Ids(b"s" * 32)
KEYS = Keyspace(0)
BOUNDS = SubmitBounds(size=1_000_000, payload_bytes=1 << 40, key_ms=60_000, keys=1000)
PATIENCE_S = 15.0
# Times of nodes that are dead soon.
SHORT = {"alive_ms": 500, "beat_s": 0.1, "missing_s": 0.3}

TaskOf = Callable[..., Any] | tuple[Callable[..., Any], Options]


class Client:
    """Submits and reads, and is no node."""

    def __init__(self, url: str) -> None:
        self.address = Address.of(url)
        self.link = Link(self.address, "test", on_push=self.pushed, on_up=self.up, on_lost=self.lost)
        self._calls = 0

    @property
    def name(self) -> str:
        """The name by which it submits."""
        return f"client-{id(self)}"

    def pushed(self, push: list[Any]) -> None:
        """Take a push."""

    def up(self) -> None:
        """The link is there."""

    def lost(self) -> None:
        """The link is lost."""

    async def submit(
        self,
        task: str,
        payload: object = None,
        count: int = 1,
        *,
        keys: Keyspace = KEYS,
        partitions: int = 1,
        **members: Any,
    ) -> list[int]:
        """Submit jobs, and return their numbers."""
        deadline = members.get("deadline_ms")
        terms = Terms(
            timeout_s=members.pop("timeout_s", 300.0),
            retries=members.pop("retries", 0),
            deadline_s=deadline and deadline / 1000,
        )
        record = encode_record(terms, msgspec.json.encode(payload))
        group = SubmitGroup([NewJob(task, record, len(record), **members)] * count, "batch" if count > 1 else "job")
        self._calls += 1
        words = submit_arguments(
            IDS.marker, self.name.encode(), self._calls, [group], bounds=BOUNDS, partitions=partitions
        )
        reply = read_submitted(await self.link.run(SUBMIT, [keys.counts], *words))
        assert isinstance(reply.answers[0], Accepted), reply.answers
        first = reply.answers[0].first
        return list(range(first, first + count * partitions, partitions))

    async def facts(self, sequence: int) -> Facts:
        """Return the facts of a job."""
        found = read_facts(await self.link.call("HMGET", KEYS.job(sequence), *FIELDS))
        assert found is not None
        return found

    async def state(self, sequence: int) -> int:
        """Return the state of a job."""
        return (await self.facts(sequence)).state

    async def over(self, *sequences: int, patience_s: float = PATIENCE_S) -> list[Facts]:
        """Return the facts of jobs once they have finished."""
        end = time.monotonic() + patience_s
        found = []
        for sequence in sequences:
            while (facts := await self.facts(sequence)).state < 5:
                assert time.monotonic() < end, (sequence, facts)
                await asyncio.sleep(0.005)
            found.append(facts)
        return found

    async def running(self, sequence: int) -> Facts:
        """Return the facts of a job once it runs."""
        async with asyncio.timeout(PATIENCE_S):
            while (facts := await self.facts(sequence)).state != 3:  # noqa: ASYNC110 — seen from outside
                await asyncio.sleep(0.005)
        return facts

    async def cancel(self, sequence: int) -> CancelAnswer:
        """Cancel a job, as any node may."""
        words = cancel_arguments(IDS.marker, CancelMode.CANCEL, [sequence], kept=DEFAULT)
        return read_cancelled(await self.link.run(CANCEL, [KEYS.counts], *words))[0]


class Standing(Client):
    """A node that stands."""

    def __init__(
        self,
        url: str,
        config: Config,
        registry: Registry,
        *,
        alive_ms: int = 8_000,
        beat_s: float = 2.0,
        missing_s: float = MISSING_S,
        partitions: int = 1,
    ) -> None:
        super().__init__(url)
        self.places = [Keyspace(partition) for partition in range(partitions)]
        self.node = Node([(keys, self.link) for keys in self.places], self.link, alive_ms=alive_ms)
        self.hands = Hands(config, registry, IDS, self.node, missing_s)
        self.heartbeat = Heartbeat(
            lambda: client_of(self.address, "heartbeat"),
            self.node.name,
            [(exchange.keys, lambda exchange=exchange: exchange.is_fit) for exchange in self.hands.exchanges],  # type: ignore[misc]
            alive_ms=alive_ms,
            beat_s=beat_s,
        )

        def renamed(name: str) -> None:
            self.heartbeat.name = name

        self.node.on_name = renamed

    @property
    def name(self) -> str:
        """The name by which it submits."""
        return self.node.name

    def pushed(self, push: list[Any]) -> None:
        """Hear of work and of cancellations."""
        if push[0] == b"smessage":
            self.hands.heard(push[1], push[2])

    def up(self) -> None:
        """Go on."""
        self.hands.up()
        self.heartbeat.beat()

    async def start(self) -> None:
        """Begin to run jobs."""
        await self.link.start()
        for keys in self.places:
            await self.link.call("SETNX", keys.marker, IDS.marker)
        await self.hands.start()
        self.heartbeat.start()

    async def stop(self) -> None:
        """End as a node does that is stopped."""
        self.heartbeat.stop()
        with suppress(Exception):
            await self.hands.stop()
        await self.link.close()


def registry_of(*tasks: TaskOf) -> Registry:
    """Return a registry of tasks."""
    registry = Registry()
    for task in tasks:
        registry.add(*(task if isinstance(task, tuple) else (task, Options())))
    return registry


@asynccontextmanager
async def standing(
    url: str, *tasks: TaskOf, times: dict[str, Any] | None = None, **changed: Any
) -> AsyncIterator[Standing]:
    """Run a node that knows ``tasks``."""
    node = Standing(url, settings(**changed), registry_of(*tasks), **(times or {}))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Submit and read."""
    found = Client(url)
    await found.link.start()
    await found.link.call("SETNX", KEYS.marker, IDS.marker)
    # Submissions are those of a node. This one is alive for ever.
    await found.link.call("SET", KEYS.heartbeat(found.name), 1)
    await found.link.call("SADD", KEYS.nodes, found.name)
    try:
        yield found
    finally:
        with suppress(StoreError):
            await found.link.call("SREM", KEYS.nodes, found.name)
            await found.link.call("DEL", KEYS.heartbeat(found.name))
        await found.link.close()


async def soon(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for what is only seen from outside."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.005)


async def told(ask: Callable[[], Awaitable[object]], patience_s: float = PATIENCE_S) -> None:
    """Wait until the store says so."""
    async with asyncio.timeout(patience_s):
        while not await ask():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.01)
