"""What it costs to read jobs that a node knows: HEAD/s of one node, and what 1,000 at once cost the store."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import uvloop

from bench.cluster import nodes
from bench.measure import BenchError, allow_files
from bench.peers.heads import Heads
from bench.peers.requests import head_request
from bench.process import Process
from bench.queues import valkey

CLIENTS = 1000
CONNECTIONS = 64
NOOP = b'{"task":"noop","payload":null}'
PATIENCE_S = 60.0


def measure(store: int, seconds: float) -> dict[str, Any]:
    """Read from one node on the Valkey at port ``store``: first jobs that have ended, then jobs that wait."""
    allow_files(2 * CLIENTS)
    with nodes.running_nodes(1, store, workers=1) as (node,):
        found, path = uvloop.run(_at_once(store, node, seconds))
        heads = Heads(node.port, CONNECTIONS, head_request(node.port, path.decode()))
        try:
            load = heads.run(0.3, seconds, node.pids)
        finally:
            heads.close()
    return found | {"heads_per_s": load.rate, "head_us": load.cpu_us}


async def _at_once(store: int, node: Process, seconds: float) -> tuple[dict[str, Any], bytes]:
    """Have each of CLIENTS connections read a job of its own, all at once and again and again."""
    queue = nodes.Adapter([node], CLIENTS)
    await queue.open()
    try:
        ended = await asyncio.gather(*(queue.post(NOOP) for _ in range(CLIENTS)))
        await _wait_until_over(queue, ended)
        found = {"of_ended": await _read(store, _Reading(queue, ended, seconds / 2))}
        await queue.occupy()
        waiting = await asyncio.gather(*(queue.post(NOOP) for _ in range(CLIENTS)))
        found["of_waiting"] = await _read(store, _Reading(queue, waiting, seconds / 2))
    finally:
        await queue.close()
    return {"at_once": CLIENTS} | found, ended[0]


async def _read(store: int, reading: _Reading) -> dict[str, Any]:
    """Read, then wait for as long; return what the store was asked in both times."""
    await reading.once()
    busy = await _calls_while(store, reading.run())
    idle = await _calls_while(store, asyncio.sleep(reading.took_s))
    return {
        "heads": reading.times * CLIENTS,
        "seconds": reading.took_s,
        "calls": sum(busy.values()),
        "calls_idle": sum(idle.values()),
        "by_command": {name: [count, idle.get(name, 0)] for name, count in busy.items() if count},
    }


async def _wait_until_over(queue: nodes.Adapter, paths: list[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while set(await asyncio.gather(*map(queue.state, paths))) != {b"200"}:
        if time.monotonic() > end:
            raise BenchError(f"{len(paths)} jobs that do nothing are not over after {PATIENCE_S:g} s")


class _Reading:
    """Rounds of HEAD, of all jobs at once."""

    def __init__(self, queue: nodes.Adapter, jobs: list[bytes], seconds: float) -> None:
        self._queue = queue
        self._jobs = jobs
        self._seconds = seconds
        self.times = 0
        self.took_s = 0.0

    async def once(self) -> None:
        """Read each job, all at once."""
        await asyncio.gather(*map(self._queue.state, self._jobs))

    async def run(self) -> None:
        """Read until the time is over."""
        begun = time.monotonic()
        while self.took_s < self._seconds:
            await self.once()
            self.times += 1
            self.took_s = time.monotonic() - begun


async def _calls_while(store: int, work: Any) -> dict[str, int]:
    """Return what Valkey was asked while ``work`` was done, less our own questions."""
    before = valkey.calls(store)
    await work
    after = valkey.calls(store)
    return {name: count - before.get(name, 0) for name, count in after.items() if name != "info"}
