"""A store that goes away, is frozen, replaced or demoted, and the way back to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import ConfigError
from headway.core.link.address import Address
from headway.core.link.reply_error import LinkLostError, ReplyError, StoreError
from headway.core.link.topology import Links

from tests.store_proxy import way_to
from tests.valkey_servers import HOST, PATIENCE_S, StoreServer, redis_binary, replica_of, sentinel_of, serving

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreServer]:
    binary = redis_binary() if request.param == "redis" else ""
    with serving(tmp_path / "store", binary, appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[StoreServer]:
    with serving(tmp_path / "store") as server:
        yield server


@asynccontextmanager
async def linked(url: str, **on: Any) -> AsyncIterator[Links]:
    links = Links(Address.of(url), "test", **on)
    await links.start()
    try:
        yield links
    finally:
        await links.close()


async def soon(condition: Any, within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.002)


async def apart(function: Any) -> None:
    """Do something with a server while the loop goes on."""
    await asyncio.to_thread(function)


async def works(links: Links) -> bool:
    try:
        return bool(await links.at(b"x").call("ECHO", "x") == b"x")
    except StoreError:
        return False


async def test_a_restarted_store_is_back_within_three_seconds(server: StoreServer) -> None:
    """V7. Nothing that it acknowledged is lost."""
    async with linked(server.url) as links:
        done = 0

        async def load() -> None:
            nonlocal done
            while done < 2000:
                try:
                    done = await links.at(b"n").call("INCRBY", "n", 1)
                except StoreError:
                    await asyncio.sleep(0.01)

        loads = [asyncio.create_task(load()) for _ in range(8)]
        for number in range(3):
            await soon(lambda n=number: done > n * 200)
            await apart(server.restart)
            begun = time.monotonic()
            await soon(lambda: links.is_up, 3)
            assert await works(links)
            assert time.monotonic() - begun < 3
            assert int(await links.at(b"n").call("GET", "n")) >= done
        await asyncio.gather(*loads)


async def test_an_outage_makes_no_storm_and_two_lines(valkey: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
    """V7: away for 4 s. Calls fail at once, and the address is tried a few times a second at most."""
    caplog.set_level(logging.INFO, "headway.core.link")
    with way_to(valkey.port) as way:
        async with linked(way.url) as links:
            valkey.kill()
            await soon(lambda: not links.is_up)
            made, begun = way.made, time.monotonic()
            while time.monotonic() < begun + 4:
                with pytest.raises(LinkLostError) as lost:
                    await links.at(b"x").call("GET", "x")
                assert not lost.value.sent
                await asyncio.sleep(0.05)
            assert 3 <= way.made - made <= 40
            assert links.why
            await apart(valkey.start)
            begun = time.monotonic()
            await soon(lambda: links.is_up, 3)
            assert await works(links)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "is away" in line]) == 1
    assert len([line for line in lines if "is back after" in line]) == 1


@pytest.mark.long
def test_a_store_that_was_away_for_a_minute_is_back_within_three_seconds(valkey: StoreServer) -> None:
    """V7, with tries that have become rare."""

    async def away() -> None:
        with way_to(valkey.port) as way:
            async with linked(way.url) as links:
                valkey.kill()
                await asyncio.sleep(50)
                made = way.made
                await asyncio.sleep(10)
                assert way.made - made <= 25
                await apart(valkey.start)
                await soon(lambda: links.is_up, 3)
                assert await works(links)

    asyncio.run(away())


async def test_killed_clients_come_back(server: StoreServer) -> None:
    """V7: ``CLIENT KILL TYPE normal`` and ``pubsub``, with messages under way."""
    pushes: list[Any] = []
    async with linked(server.url, on_push=pushes.append) as links:
        await links.at(b"x").subscribe(b"x")
        for kind in ("normal", "pubsub") * 3:
            made = links.made
            await apart(lambda kind=kind: server.ask("CLIENT", "KILL", "TYPE", kind))
            if kind == "normal":
                await soon(lambda made=made: links.made > made, 3)
            count = len(pushes)

            async def heard(count: int = count) -> None:
                while len(pushes) == count:
                    await asyncio.sleep(0.01)
                    if await works(links):
                        await links.at(b"x").call("SPUBLISH", "x", "y")

            await asyncio.wait_for(heard(), 3)


async def test_a_frozen_store_is_noticed_and_thaws(valkey: StoreServer) -> None:
    async with linked(valkey.url) as links:
        valkey.freeze()
        call = links.at(b"x").call("SET", "x", 1)
        begun = time.monotonic()
        with pytest.raises(LinkLostError) as lost:
            await call
        assert lost.value.sent
        assert 2 < time.monotonic() - begun < 6
        valkey.thaw()
        await soon(lambda: links.is_up, 5)
        # It had been sent, and was carried out.
        assert await links.at(b"x").call("GET", "x") == b"1"


@pytest.mark.long
async def test_a_blocked_loop_is_no_silent_store(valkey: StoreServer) -> None:
    async with linked(valkey.url) as links:
        time.sleep(5)  # noqa: ASYNC251 — a task that computes does the same
        assert await links.at(b"x").call("ECHO", "x") == b"x"
        await asyncio.sleep(1.5)
        assert links.made == 1


async def test_a_store_that_does_not_read_bounds_what_waits(valkey: StoreServer) -> None:
    """Memory is not taken without end for calls that do not leave."""
    async with linked(valkey.url) as links:
        valkey.freeze()
        piece = b"x" * (8 << 20)
        calls = []
        for _ in range(20):
            calls.append(links.at(b"x").call("SET", "x", piece))
            await asyncio.sleep(0)
        found = await asyncio.gather(*calls, return_exceptions=True)
        unsent = [error for error in found if isinstance(error, LinkLostError) and not error.sent]
        assert 8 <= len(unsent) <= 12
        valkey.thaw()
        await soon(lambda: links.is_up)


@pytest.mark.long
async def test_a_slow_upload_is_no_silence(valkey: StoreServer) -> None:
    """The store says nothing before it has all of a call, which takes longer here than silence may."""
    with way_to(valkey.port) as way:
        way.limit(4 << 20)
        async with linked(way.url) as links:
            begun = time.monotonic()
            assert await links.at(b"x").call("SET", "x", b"x" * (24 << 20)) == b"OK"
            assert time.monotonic() - begun > 4
            assert links.made == 1


async def test_a_demoted_primary_is_left(server: StoreServer, tmp_path: Path) -> None:
    """V10: the call fails as away, and the other one of the hosts is found."""
    with replica_of(server, tmp_path / "replica") as replica:
        async with linked(f"valkey://{HOST}:{server.port},{HOST}:{replica.port}") as links:
            assert await links.at(b"x").call("SET", "x", 1) == b"OK"
            await apart(lambda: server.ask("WAIT", 1, 1000))
            replica.ask("REPLICAOF", "NO", "ONE")
            server.ask("REPLICAOF", HOST, replica.port)
            with pytest.raises(ReplyError) as refused:
                await links.at(b"x").call("SET", "x", 2)
            assert refused.value.code == "READONLY"
            await soon(lambda: links.made == 2)
            assert await links.at(b"x").call("SET", "x", 3) == b"OK"
            assert replica.ask("GET", "x") == b"3"


async def test_an_emptied_store_makes_all_invalid(server: StoreServer) -> None:
    """V14: FLUSHALL tells of no key."""
    invalid: list[Any] = []
    async with linked(server.url, on_invalid=invalid.append) as links:
        await links.at(b"h").call("HSET", "h", "a", 1)
        await links.at(b"h").read(b"h", b"a")
        server.ask("FLUSHALL")
        await soon(lambda: None in invalid)


async def test_a_full_table_of_tracked_keys_says_so(server: StoreServer) -> None:
    """V14: the server forgets keys, and tells it of each: no cache stays as it was."""
    server.ask("CONFIG", "SET", "tracking-table-max-keys", 100)
    invalid: set[bytes] = set()
    async with linked(server.url, on_invalid=lambda keys: invalid.update(keys or ())) as links:
        for number in range(1000):
            await links.at(b"h").read(b"h%d" % number, b"a")
        await soon(lambda: len(invalid) >= 890)
        tracked = server.ask("INFO", "stats")["tracking_total_keys"]
        assert int(tracked) <= 110


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[StoreServer, StoreServer, StoreServer]]:
    """A primary, its replica and a Sentinel that fails over after half a second."""
    with ExitStack() as stack:
        primary = stack.enter_context(serving(tmp_path / "a"))
        replica = stack.enter_context(replica_of(primary, tmp_path / "b"))
        yield primary, replica, stack.enter_context(sentinel_of(primary, tmp_path / "c"))


async def test_sentinel_names_the_primary(watched: tuple[StoreServer, StoreServer, StoreServer]) -> None:
    """V10: the primary dies, and its replica takes over. The first Sentinel of the URL is not there."""
    primary, replica, sentinel = watched
    async with linked(f"valkey://{HOST}:1,{HOST}:{sentinel.port}/0?sentinel=main") as links:
        assert await links.at(b"x").call("SET", "x", 1) == b"OK"
        primary.kill()
        await soon(lambda: not links.is_up)
        await soon(lambda: links.is_up, PATIENCE_S)
        assert await links.at(b"x").call("SET", "x", 2) == b"OK"
        assert replica.ask("GET", "x") == b"2"


async def test_a_primary_that_sentinel_replaced_is_left(watched: tuple[StoreServer, StoreServer, StoreServer]) -> None:
    """V10: without a call that it could refuse, too. What it has may be old."""
    _, replica, sentinel = watched
    heard: list[int] = []
    async with linked(f"valkey://{HOST}:{sentinel.port}/0?sentinel=main", on_push=lambda _: heard.append(1)) as links:
        await links.at(b"x").subscribe(b"x")
        sentinel.ask("SENTINEL", "FAILOVER", "main")
        await soon(lambda: links.made == 2, PATIENCE_S)
        await soon(lambda: links.is_up, PATIENCE_S)
        assert await links.at(b"x").call("SET", "x", 2) == b"OK"
        assert replica.ask("GET", "x") == b"2"

        async def hear() -> None:
            while not heard:
                await links.at(b"x").call("SPUBLISH", "x", "y")
                await asyncio.sleep(0.01)

        # Messages come from the same server.
        await asyncio.wait_for(hear(), 5)


async def test_a_name_that_no_sentinel_knows(watched: tuple[StoreServer, StoreServer, StoreServer]) -> None:
    _, replica, sentinel = watched
    for url, fault in [
        (f"valkey://{HOST}:{sentinel.port}?sentinel=other", "no Sentinel of .* knows the name 'other'"),
        (f"valkey://{HOST}:{replica.port}?sentinel=main", "is no Sentinel"),
        (f"valkey://{HOST}:{sentinel.port}", r"is a Sentinel. Add \?sentinel=NAME"),
    ]:
        with pytest.raises(ConfigError, match=fault):
            await Links(Address.of(url), "test").start(patience_s=0.5)
