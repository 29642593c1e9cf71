"""A whole engine at each kind of address: a socket, a password, few rights, TLS, Sentinel, a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from headway.core.errors import EngineAwayError
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.status import Status

from tests.core.contract.client import finished, submit
from tests.core.contract.conftest import started
from tests.core.engines import double, known
from tests.valkey_servers import (
    HOST,
    cluster_of,
    redis_binary,
    replica_of,
    sentinel_of,
    serving,
    tls_options,
)

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def socket_of(stack: ExitStack, folder: Path) -> str:
    return f"unix://{stack.enter_context(serving(folder)).socket}?db=2"


def with_password(stack: ExitStack, folder: Path) -> str:
    return stack.enter_context(serving(folder, requirepass="s%e@c/r:e?t")).url


def with_few_rights(stack: ExitStack, folder: Path) -> str:
    """None that are for administrators."""
    server = stack.enter_context(serving(folder))
    server.allow("node", "on >secret ~hw:* &hw:* +@all -@admin -@dangerous +info")
    server.ask("CONFIG", "SET", "requirepass", "other")
    return f"valkey://node:secret@{HOST}:{server.port}/0"


def with_tls(stack: ExitStack, folder: Path) -> str:
    options = tls_options(folder)
    server = stack.enter_context(serving(folder, redis_binary(), **options))
    return f"{server.url}?ca={options['tls_ca_cert_file']}"


def by_sentinel(stack: ExitStack, folder: Path) -> str:
    primary = stack.enter_context(serving(folder / "a"))
    stack.enter_context(replica_of(primary, folder / "b"))
    sentinel = stack.enter_context(sentinel_of(primary, folder / "c"))
    return f"valkey://{HOST}:{sentinel.port}/0?sentinel=main"


def in_a_cluster(stack: ExitStack, folder: Path) -> str:
    return stack.enter_context(cluster_of(folder)).url


PLACES = [socket_of, with_password, with_few_rights, with_tls, by_sentinel, in_a_cluster]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_jobs_run(place: object, stack: ExitStack, tmp_path: Path) -> None:
    assert callable(place)
    url = await asyncio.to_thread(place, stack, tmp_path)
    async with started({"engine": url}, double) as engine:
        assert await doubled(engine, 4) == State.SUCCEEDED
        # Long enough for heartbeats, which have a connection of their own.
        await asyncio.sleep(2.5)
        assert await doubled(engine, 5) == State.SUCCEEDED
        assert engine.not_ready is None


async def doubled(engine: Engine, payload: int) -> State:
    return State((await finished(engine, await submit(engine, "double", payload))).state)


async def test_jobs_go_on_after_a_failover(stack: ExitStack, tmp_path: Path) -> None:
    """V10: the primary dies, and the replica takes over. Meanwhile the store is away, and nothing else goes wrong."""
    primary = stack.enter_context(serving(tmp_path / "a"))
    replica = stack.enter_context(replica_of(primary, tmp_path / "b"))
    sentinel = stack.enter_context(sentinel_of(primary, tmp_path / "c"))
    async with started({"engine": f"valkey://{HOST}:{sentinel.port}/0?sentinel=main"}, double) as engine:
        before = await submit(engine, "double", 1)
        assert (await finished(engine, before)).state == State.SUCCEEDED
        await asyncio.to_thread(primary.ask, "WAIT", 1, 1000)
        primary.kill()
        after = await submitted_at_last(engine, 2)
        assert (await finished(engine, after)).state == State.SUCCEEDED
        status = await known(engine.peek(before.id))
        assert status is not None
        assert status.state == State.SUCCEEDED
        assert int(replica.ask("DBSIZE")) > 0


async def submitted_at_last(engine: Engine, payload: int) -> Status:
    """Submit again for as long as the store is away."""
    while True:
        try:
            return await submit(engine, "double", payload)
        except EngineAwayError:
            await asyncio.sleep(0.05)
