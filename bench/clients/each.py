"""One client in a process of its own: ``python -m bench.clients.each NAME URL TURNS``; prints figures as JSON.

A turn is 1,000 tasks, each of which reads five fields of a hash of its own and awaits them: what a server does that
answers as many requests at once. The CPU is that of the process, in the turns alone.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from headway.core.link.address import Address

TASKS = 1000
FIELDS = ("s", "k", "t", "e", "g")
Read = Callable[[str], Coroutine[Any, Any, Any]]


def key_of(number: int) -> str:
    """Return the key of a task. In a cluster they are spread over 16 slots."""
    return f"hw:{{{number % 16}}}:j:{number}"


@asynccontextmanager
async def multiplexer(address: Address) -> AsyncIterator[Read]:
    """Headway's own, as an engine uses it."""
    from headway.core.link.topology import Links

    links = Links(address, "bench")
    await links.start()
    fields = [field.encode() for field in FIELDS]

    async def read(key: str) -> Any:
        name = key.encode()
        return await links.at(name).call(b"HMGET", name, *fields)

    yield read
    await links.close()


@asynccontextmanager
async def tracked(address: Address) -> AsyncIterator[Read]:
    """The same with reads that the server remembers, so that it tells of a change."""
    from headway.core.link.topology import Links

    links = Links(address, "bench")
    await links.start()
    fields = [field.encode() for field in FIELDS]

    async def read(key: str) -> Any:
        name = key.encode()
        return await links.at(name).read(name, *fields)

    yield read
    await links.close()


def _redis_options(address: Address) -> dict[str, Any]:
    ((host, port),) = address.hosts
    tls = {"ssl": True, "ssl_ca_certs": address.ca} if address.tls else {}
    return {"host": host, "port": port, **tls}


@asynccontextmanager
async def redis_pool(address: Address) -> AsyncIterator[Read]:
    """redis-py with hiredis, a pool of 64 connections."""
    redis = importlib.import_module("redis.asyncio")
    options = _redis_options(address)
    if options.pop("ssl", False):
        options["connection_class"] = redis.SSLConnection
    client = redis.Redis(connection_pool=redis.BlockingConnectionPool(max_connections=64, timeout=None, **options))

    async def read(key: str) -> Any:
        return await client.hmget(key, FIELDS)

    yield read
    await client.aclose()


@asynccontextmanager
async def redis_pipelines(address: Address) -> AsyncIterator[Read]:
    """redis-py with hiredis: all reads of a turn of the loop in one pipeline, by a batcher of our own."""
    redis = importlib.import_module("redis.asyncio")
    client = redis.Redis(**_redis_options(address))
    waiting: list[tuple[str, asyncio.Future[Any]]] = []
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def send(batch: Sequence[tuple[str, asyncio.Future[Any]]]) -> None:
        async with client.pipeline(transaction=False) as pipe:
            for key, _ in batch:
                pipe.hmget(key, FIELDS)
            for (_, future), reply in zip(batch, await pipe.execute(), strict=True):
                future.set_result(reply)

    def flush() -> None:
        task = loop.create_task(send([*waiting]))
        waiting.clear()
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def read(key: str) -> Any:
        future = loop.create_future()
        if not waiting:
            loop.call_soon(flush)
        waiting.append((key, future))
        return await future

    yield read
    await client.aclose()


@asynccontextmanager
async def coredis(address: Address) -> AsyncIterator[Read]:
    """Coredis, which shares connections among callers."""
    module = importlib.import_module("coredis")
    ((host, port),) = address.hosts
    async with module.Redis(host=host, port=port) as client:

        async def read(key: str) -> Any:
            return await client.hmget(key, FIELDS)

        yield read


@asynccontextmanager
async def glide(address: Address) -> AsyncIterator[Read]:
    """valkey-glide, whose core is in Rust."""
    module = importlib.import_module("glide")
    nodes = [module.NodeAddress(host, port) for host, port in address.hosts]
    client = await module.GlideClient.create(module.GlideClientConfiguration(nodes, request_timeout=10_000))
    fields = list(FIELDS)

    async def read(key: str) -> Any:
        return await client.hmget(key, fields)

    yield read
    await client.close()


CLIENTS = {
    "multiplexer": multiplexer,
    "multiplexer, tracked reads": tracked,
    "redis-py, pipelines of a batcher": redis_pipelines,
    "redis-py, pool of 64": redis_pool,
    "valkey-glide": glide,
    "coredis": coredis,
}


async def measure(name: str, address: Address, turns: int) -> dict[str, float]:
    """Return CPU and time of a read."""
    async with CLIENTS[name](address) as read:
        keys = [key_of(number) for number in range(TASKS)]

        async def turn() -> None:
            found = await asyncio.gather(*map(read, keys))
            values = [*found[-1].values()] if isinstance(found[-1], dict) else found[-1]
            assert len(values) == len(FIELDS)
            assert values[0] == b"5", values

        await turn()
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(turns):
            await turn()
        reads = TASKS * turns
        return {
            "client_us": (time.process_time() - cpu) / reads * 1e6,
            "reads_per_s": reads / (time.perf_counter() - wall),
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(sys.argv[1], Address.of(sys.argv[2]), int(sys.argv[3])))))
