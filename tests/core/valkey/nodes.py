"""Nodes without an engine, for tests of all that holds and runs jobs. They submit by the script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from headway.core.config import Config
from headway.core.ids import Ids
from headway.core.job import Terms
from headway.core.tasks.registry import Options, Registry
from headway.core.valkey.address import Address
from headway.core.valkey.changes import CancelAnswer, CancelMode, cancel_arguments, read_cancelled
from headway.core.valkey.groups import Accepted, NewJob, SubmitBounds, SubmitGroup, read_submitted, submit_arguments
from headway.core.valkey.hands import Hands
from headway.core.valkey.heartbeat import Heartbeat, client_of
from headway.core.valkey.keys import Keys
from headway.core.valkey.link import Link
from headway.core.valkey.node import Node
from headway.core.valkey.record import FIELDS, Facts, encode_record, read_facts
from headway.core.valkey.scripts import CANCEL, SUBMIT

from tests.core.engines import settings

# All nodes of a test have the ids of one store.
IDS = Ids(b"s" * 32)
KEYS = Keys(0)
BOUNDS = SubmitBounds(size=1_000_000, payload_bytes=1 << 40, key_ms=60_000, keys=1000)
PATIENCE_S = 15.0


class Standing:
    """A node that stands. Times of its heartbeat are short, if the test says so."""

    def __init__(
        self, url: str, config: Config, registry: Registry, alive_ms: int = 10_000, beat_s: float = 2.0
    ) -> None:
        address = Address.of(url)
        self.link = Link(
            address, "test", on_push=self._pushed, on_up=lambda: self.hands.up(), on_invalid=lambda _: None
        )
        self.node = Node([(KEYS, self.link)], self.link, alive_ms=alive_ms)
        self.hands = Hands(config, registry, IDS, self.node)
        exchange = self.hands.exchanges[0]
        self.heartbeat = Heartbeat(
            lambda: client_of(address, "heartbeat"),
            self.node.name,
            [(KEYS, lambda: exchange.is_fit)],
            alive_ms=alive_ms,
            beat_s=beat_s,
        )
        self._calls = 0

    def _pushed(self, push: list[Any]) -> None:
        if push[0] == b"smessage":
            self.hands.heard(push[1], push[2])

    async def submit(self, task: str, payload: object = None, count: int = 1, **members: Any) -> list[int]:
        """Submit jobs, and return their numbers."""
        terms = Terms(timeout_s=members.pop("timeout_s", 300.0), retries=members.pop("retries", 0))
        record = encode_record(terms, msgspec.json.encode(payload))
        group = SubmitGroup([NewJob(task, record, len(record), **members)] * count, "batch" if count > 1 else "job")
        self._calls += 1
        words = submit_arguments(IDS.marker, self.node.name.encode(), self._calls, [group], bounds=BOUNDS)
        reply = read_submitted(await self.link.run(SUBMIT, [KEYS.counts], *words))
        assert isinstance(reply.answers[0], Accepted), reply.answers
        return list(range(reply.answers[0].first, reply.answers[0].first + count))

    async def facts(self, sequence: int) -> Facts:
        """Return the facts of a job."""
        found = read_facts(await self.link.call("HMGET", KEYS.job(sequence), *FIELDS))
        assert found is not None
        return found

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

    async def cancel(self, sequence: int) -> CancelAnswer:
        """Cancel a job, as any node may."""
        words = cancel_arguments(IDS.marker, CancelMode.CANCEL, [sequence], kept=self.hands.kept)
        return read_cancelled(await self.link.run(CANCEL, [KEYS.counts], *words))[0]


@asynccontextmanager
async def standing(
    url: str,
    *tasks: Callable[..., Any] | tuple[Callable[..., Any], Options],
    alive_ms: int = 10_000,
    beat_s: float = 2.0,
    **changed: Any,
) -> AsyncIterator[Standing]:
    """Run a node that knows ``tasks``."""
    registry = Registry()
    for task in tasks:
        registry.add(*(task if isinstance(task, tuple) else (task, Options())))
    node = Standing(url, settings(**changed), registry, alive_ms, beat_s)
    await node.link.start()
    await node.link.call("SETNX", KEYS.marker, IDS.marker)
    await node.hands.start()
    node.heartbeat.start()
    try:
        yield node
    finally:
        node.heartbeat.stop()
        with suppress(Exception):
            await node.hands.stop()
        await node.link.close()


async def soon(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for what is only seen from outside."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.005)
