"""Three primaries that share the slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import ConfigError
from headway.core.link.address import Address
from headway.core.link.reply_error import LinkLostError, ReplyError, StoreError
from headway.core.link.script import Script
from headway.core.link.slots import slot_of
from headway.core.link.topology import Links

from tests.valkey_servers import CLUSTERED, Cluster, StoreServer, cluster_of, serving

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

PARTITIONS = range(16)
# Counts in one key, and makes another one whose name it derives.
COUNT = Script(
    "count",
    b"""
    local prefix = string.sub(KEYS[1], 1, -2)
    redis.call('EXISTS', prefix .. 'none')
    local n = redis.call('HINCRBY', KEYS[1], 'n', 1)
    redis.call('SET', prefix .. 'j:' .. n, ARGV[1])
    return n
    """,
)


def key(partition: int, name: bytes = b"c") -> bytes:
    return b"hw:{%d}:%b" % (partition, name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _empty(cluster: Cluster) -> None:
    for server in cluster.servers:
        server.ask("FLUSHALL")


@asynccontextmanager
async def linked(cluster: Cluster, **on: Any) -> AsyncIterator[Links]:
    links = Links(Address.of(cluster.url), "test", **on)
    await links.start()
    try:
        yield links
    finally:
        await links.close()


async def soon(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.005)


def test_slots_are_those_of_the_servers(cluster: Cluster) -> None:
    for name in [b"", b"a", b"hw:meta", b"hw:{12}:c", b"{}x", b"a{b}c{d}", b"a}{b", b"{", b"\xff\x00{x}"]:
        assert slot_of(name) == cluster.servers[0].ask("CLUSTER", "KEYSLOT", name)


def test_partitions_are_spread_over_the_servers(cluster: Cluster) -> None:
    """V13: no server has twice the partitions of another."""
    ports = [cluster.owner(slot_of(key(partition))).port for partition in PARTITIONS]
    counts = [ports.count(server.port) for server in cluster.servers]
    assert max(counts) <= 2 * min(counts)


async def test_each_partition_is_reached(cluster: Cluster) -> None:
    async with linked(cluster) as links:
        assert links.is_up
        calls = [links.of(partition).run(COUNT, [key(partition)], "x") for partition in PARTITIONS]
        assert await asyncio.gather(*calls) == [1] * 16
        await links.at(b"hw:meta").call("HSET", "hw:meta", "version", 1)
        assert await links.at(b"hw:meta").read(b"hw:meta", b"version") == [b"1"]


async def test_a_killed_primary_stops_only_its_slots(cluster: Cluster) -> None:
    lost = cluster.owner(slot_of(key(0)))
    mine = {partition for partition in PARTITIONS if cluster.owner(slot_of(key(partition))) is lost}
    async with linked(cluster) as links:
        lost.kill()
        await soon(lambda: not links.is_up)
        for partition in PARTITIONS:
            try:
                await links.of(partition).run(COUNT, [key(partition)], "x")
                assert partition not in mine
            except LinkLostError:
                assert partition in mine
            assert links.of(partition).is_up is (partition not in mine)
        assert str(lost.port) in links.why
        lost.start()
        await soon(lambda: links.is_up)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await links.of(0).run(COUNT, [key(0)], "x") == 1
                    break
                except StoreError:
                    # CLUSTERDOWN, until the others have seen it.
                    await asyncio.sleep(0.05)


async def test_a_slot_that_was_moved_is_found(cluster: Cluster) -> None:
    slot = slot_of(key(5))
    invalid: list[Any] = []
    async with linked(cluster, on_invalid=invalid.append) as links:
        for number in range(20):
            assert await links.of(5).run(COUNT, [key(5)], "x") == number + 1
        # The first map makes all invalid, too.
        invalid.clear()
        source = cluster.owner(slot)
        there = next(server for server in cluster.servers if server is not source)
        cluster.begin_move(slot, there)
        cluster.move_keys(slot, there)
        cluster.end_move(slot, there)
        invalid.clear()
        calls = [links.of(5).run(COUNT, [key(5)], "x") for _ in range(20)]
        assert sorted(await asyncio.gather(*calls)) == list(range(21, 41))
        # What was kept of the keys may have changed, and nobody tells.
        assert None in invalid
        assert there.ask("HGET", key(5), "n") == b"40"


async def test_a_slot_that_was_moved_while_nobody_asked_makes_all_invalid(cluster: Cluster) -> None:
    """The next map tells."""
    slot = slot_of(key(6))
    invalid: list[Any] = []
    async with linked(cluster, on_invalid=invalid.append) as links:
        # A key that is not there is tracked as well, and no server deletes it.
        assert await links.of(6).read(key(6), b"n") == [None]
        invalid.clear()
        there = next(server for server in cluster.servers if server is not cluster.owner(slot))
        cluster.begin_move(slot, there)
        cluster.end_move(slot, there)
        await soon(lambda: None in invalid)
        assert await links.of(6).run(COUNT, [key(6)], "x") == 1


async def test_a_script_waits_while_its_slot_is_moved_and_loses_nothing(cluster: Cluster) -> None:
    """Keys that the script derives are on either server. It fails before its first write, and is tried again."""
    slot = slot_of(key(7))
    source = cluster.owner(slot)
    there = next(server for server in cluster.servers if server is not source)
    async with linked(cluster) as links:
        done: list[int] = []

        async def load() -> None:
            while len(done) < 400:
                done.append(await links.of(7).run(COUNT, [key(7)], "x"))

        loads = [asyncio.create_task(load()) for _ in range(4)]
        await soon(lambda: len(done) > 50)
        cluster.begin_move(slot, there)
        while cluster.move_keys(slot, there, 5):
            # A read of one key follows it at once.
            assert int((await links.of(7).read(key(7), b"n"))[0] or 0) >= 50
            await asyncio.sleep(0.01)
        cluster.end_move(slot, there)
        await asyncio.gather(*loads)
        assert sorted(done) == list(range(1, len(done) + 1))
        assert there.ask("EXISTS", *(key(7, b"j:%d" % number) for number in done)) == len(done)


async def test_nothing_is_kept_of_a_read_while_its_slot_is_moved(cluster: Cluster) -> None:
    """The receiving server tells of no change, so the read itself is the last word on it."""
    slot = slot_of(key(9))
    invalid: list[Any] = []
    async with linked(cluster, on_invalid=invalid.append) as links:
        assert await links.of(9).run(COUNT, [key(9)], "x") == 1
        there = next(server for server in cluster.servers if server is not cluster.owner(slot))
        cluster.begin_move(slot, there)
        cluster.move_keys(slot, there)
        for _ in range(2):
            invalid.clear()
            assert await links.of(9).read(key(9), b"n") == [b"1"]
            await soon(lambda: [key(9)] in invalid)
        cluster.end_move(slot, there)


async def test_messages_follow_their_slot(cluster: Cluster) -> None:
    slot = slot_of(key(3))
    pushes: list[list[Any]] = []
    channel = key(3, b"to:node")
    async with linked(cluster, on_push=pushes.append) as links:
        await links.of(3).subscribe(channel)
        await links.of(3).call("SPUBLISH", channel, "one")
        await soon(lambda: [b"smessage", channel, b"one"] in pushes)
        source = cluster.owner(slot)
        there = next(server for server in cluster.servers if server is not source)
        cluster.begin_move(slot, there)
        cluster.end_move(slot, there)

        async def heard() -> None:
            while [b"smessage", channel, b"two"] not in pushes:
                await links.of(3).call("SPUBLISH", channel, "two")
                await asyncio.sleep(0.02)

        await asyncio.wait_for(heard(), 5)


async def test_a_single_server_is_no_cluster(store: StoreServer) -> None:
    with pytest.raises(ConfigError, match=r"is no cluster. Leave cluster=true out"):
        await Links(Address.of(f"valkey://127.0.0.1:{store.port}?cluster=true"), "test").start()


async def test_a_cluster_is_no_single_server(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"is a cluster. Add \?cluster=true"):
        await Links(Address.of(cluster.servers[0].url), "test").start()


async def test_other_refusals_are_for_the_caller(cluster: Cluster) -> None:
    async with linked(cluster) as links:
        with pytest.raises(ReplyError):
            await links.of(0).call("HGET", key(0))


async def test_a_replica_takes_over(tmp_path: Path) -> None:
    """V10: the primary dies. Its slots are reached again, and so are their messages."""
    pushes: list[Any] = []
    with cluster_of(tmp_path / "cluster") as cluster, serving(tmp_path / "replica", **CLUSTERED) as replica:
        lost = cluster.owner(slot_of(key(11)))
        cluster.follow(lost, replica)
        async with linked(cluster, on_push=pushes.append) as links:
            await links.of(11).subscribe(key(11, b"to:node"))
            assert await links.of(11).run(COUNT, [key(11)], "x") == 1
            await asyncio.to_thread(lost.ask, "WAIT", 1, 1000)
            lost.kill()
            await soon(lambda: not links.of(11).is_up)
            await soon(lambda: links.is_up)
            assert await links.of(11).run(COUNT, [key(11)], "x") == 2
            assert replica.ask("HGET", key(11), "n") == b"2"

            async def heard() -> None:
                while not pushes:
                    await links.of(11).call("SPUBLISH", key(11, b"to:node"), "one")
                    await asyncio.sleep(0.02)

            await asyncio.wait_for(heard(), 5)
