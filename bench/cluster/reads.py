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
# Commands by which jobs are read and written; a node that does nothing calls others, to show that it is alive.
OF_JOBS = ("hmget", "hgetall", "hget", "hexists", "get", "mget", "lrange", "strlen")
NOOP = b'{"task":"noop","payload":null}'
PATIENCE_S = 60.0


def measure(store: int, seconds: float) -> dict[str, Any]:
    """Read for so long from one node on the Valkey at port ``store``; half of the jobs have ended, half wait."""
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
        ended = await asyncio.gather(*(queue.post(NOOP) for _ in range(CLIENTS // 2)))
        await _wait_until_over(queue, ended)
        await queue.occupy()
        waiting = await asyncio.gather(*(queue.post(NOOP) for _ in range(CLIENTS // 2)))
        jobs = [*ended, *waiting]
        for _ in range(2):
            await asyncio.gather(*map(queue.state, jobs))
        idle = await _calls_while(store, asyncio.sleep(seconds))
        reading = _Reading(queue, jobs, seconds)
        busy = await _calls_while(store, reading.run())
    finally:
        await queue.close()
    return {
        "at_once": CLIENTS,
        "times": reading.times,
        "heads": reading.times * CLIENTS,
        "store_calls": sum(busy.values()),
        "store_calls_idle": sum(idle.values()),
        "reads_of_jobs": sum(busy.get(name, 0) for name in OF_JOBS),
        "reads_of_jobs_idle": sum(idle.get(name, 0) for name in OF_JOBS),
    }, ended[0]


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

    async def run(self) -> None:
        """Read until the time is over."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            await asyncio.gather(*map(self._queue.state, self._jobs))
            self.times += 1


async def _calls_while(store: int, work: Any) -> dict[str, int]:
    """Return what Valkey was asked while ``work`` was done, less our own questions."""
    before = valkey.calls(store)
    await work
    after = valkey.calls(store)
    return {name: count - before.get(name, 0) for name, count in after.items() if name != "info"}
