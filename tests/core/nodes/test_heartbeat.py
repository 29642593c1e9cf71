"""Heartbeats: from a thread and a connection of their own, by all ways to a store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from headway.core.link.address import Address
from headway.core.nodes.heartbeat import Heartbeat, client_of
from headway.core.store.keys import Keyspace
from redis.crc import key_slot
from redis.exceptions import ClusterDownError

from tests.core.nodes.nodes import KEYS, client, soon, told
from tests.valkey_servers import HOST, cluster_of, replica_of, sentinel_of, serving

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long


async def test_a_heartbeat_is_that_of_a_node_that_can_claim(store_url: str) -> None:
    """Not one whose link is lost, though the heartbeat has a connection of its own."""
    is_fit = True
    async with client(store_url) as outside:
        beats = Heartbeat(
            lambda: client_of(outside.address, "beats"), "node", [(KEYS, lambda: is_fit)], alive_ms=300, beat_s=0.05
        )
        beats.start()

        async def is_there() -> bool:
            return bool(await outside.link.call("EXISTS", KEYS.heartbeat("node")))

        async def is_gone() -> bool:
            return not await is_there()

        await told(is_there)
        await asyncio.sleep(0.5)
        assert await is_there()
        is_fit = False
        began = time.monotonic()
        await told(is_gone)
        assert time.monotonic() - began < 1
        is_fit = True
        beats.beat()
        await told(is_there)
        beats.stop()


async def test_a_heartbeat_goes_on_after_its_connection_was_lost(store_url: str) -> None:
    async with client(store_url) as outside:
        beats = Heartbeat(
            lambda: client_of(outside.address, "beats"), "node", [(KEYS, lambda: True)], alive_ms=2000, beat_s=0.05
        )
        beats.start()
        for _ in range(3):
            await asyncio.sleep(0.2)
            found = await outside.link.call("CLIENT", "LIST")
            [own] = [line for line in found.decode().splitlines() if "name=beats" in line]
            await outside.link.call("CLIENT", "KILL", "ID", own.split()[0].removeprefix("id="))
            await outside.link.call("DEL", KEYS.heartbeat("node"))
        await asyncio.sleep(0.3)
        assert await outside.link.call("EXISTS", KEYS.heartbeat("node"))
        assert (beats.is_missed, beats.why) == (False, "")
        beats.stop()


async def test_a_heartbeat_ends_at_once(store_url: str) -> None:
    """The end of a node waits for no beat but one that is under way."""
    async with client(store_url) as outside:
        beats = Heartbeat(
            lambda: client_of(outside.address, "beats"), "node", [(KEYS, lambda: True)], alive_ms=2000, beat_s=30
        )
        beats.start()
        await told(lambda: outside.link.call("EXISTS", KEYS.heartbeat("node")))
        began = time.monotonic()
        beats.stop()
        assert time.monotonic() - began < 1


async def test_a_heartbeat_goes_to_each_partition_of_a_cluster(tmp_path: Path) -> None:
    """Also to those that are left while a primary is away."""
    with cluster_of(tmp_path) as cluster:
        places = [Keyspace(partition) for partition in range(6)]
        address = Address.of(cluster.url)
        beats = Heartbeat(
            lambda: client_of(address, "beats"),
            "node",
            [(keys, lambda: True) for keys in places],
            alive_ms=4000,
            beat_s=0.05,
        )
        beats.start()
        owners = {keys: cluster.owner(key_slot(keys.counts)) for keys in places}

        def beaten(keys: Keyspace) -> bool:
            try:
                return bool(owners[keys].ask("EXISTS", keys.heartbeat("node")))
            except ClusterDownError:
                # It has just begun again.
                return False

        await soon(lambda: all(map(beaten, places)))
        assert beats.why == ""
        killed = owners[places[0]]
        left = [keys for keys in places if owners[keys] is not killed]
        assert left
        killed.kill()
        await asyncio.sleep(5)
        assert (all(map(beaten, left)), beats.why != "") == (True, True)
        await asyncio.to_thread(killed.start)
        await soon(lambda: all(map(beaten, places)))
        beats.stop()


def test_the_primary_is_found_by_each_way(tmp_path: Path) -> None:
    """By Sentinel, and among several hosts."""
    with (
        serving(tmp_path / "primary") as primary,
        replica_of(primary, tmp_path / "replica") as replica,
        sentinel_of(primary, tmp_path / "sentinel") as sentinel,
    ):
        ways = (
            f"valkey://{HOST}:{sentinel.port}/0?sentinel=main",
            f"valkey://{HOST}:{replica.port},{HOST}:{primary.port}/0",
            f"unix://{primary.socket}",
        )
        for number, url in enumerate(ways):
            beats = client_of(Address.of(url), "beats")
            beats.set("beat", number)
            assert primary.ask("GET", "beat") == b"%d" % number
            beats.close()


async def test_a_heartbeat_goes_to_the_primary_after_a_failover(tmp_path: Path) -> None:
    """The former one is still there, and refuses it."""
    with serving(tmp_path / "first") as first, replica_of(first, tmp_path / "second") as second:
        address = Address.of(f"valkey://{HOST}:{first.port},{HOST}:{second.port}/0")
        beats = Heartbeat(
            lambda: client_of(address, "beats"), "node", [(KEYS, lambda: True)], alive_ms=500, beat_s=0.05
        )
        beats.start()
        await soon(lambda: first.ask("EXISTS", KEYS.heartbeat("node")))
        second.ask("REPLICAOF", "NO", "ONE")
        first.ask("REPLICAOF", HOST, second.port)
        second.ask("DEL", KEYS.heartbeat("node"))
        await soon(lambda: second.ask("EXISTS", KEYS.heartbeat("node")))
        beats.stop()


def test_a_heartbeat_has_the_password_of_the_store(tmp_path: Path) -> None:
    with serving(tmp_path, requirepass="secret") as server:
        for url in (server.url, f"unix://:secret@{server.socket}"):
            beats = client_of(Address.of(url), "beats")
            assert beats.set("beat", 1)
            beats.close()
