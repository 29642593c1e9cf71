"""Events of all nodes: none is missed silently, whatever happens to the store, the connection or the reader."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from headway.core.errors import EngineAwayError
from headway.core.events import EventFilter

from tests.core.engines import known
from tests.core.valkey.stores import EVERYTHING, NODE, reached
from tests.valkey_servers import StoreServer, serving

# Stores, and journals that are carried over, take their time.
pytestmark = pytest.mark.long


async def test_events_of_one_node_are_told_on_all_under_the_same_numbers(store_url: str) -> None:
    async with reached(store_url) as one, reached(store_url) as other:
        readers = [await node.reads() for node in (one, other)]
        jobs = [*await one.submit(3), *await other.submit(2)]
        for reader in readers:
            await reader.has(*jobs)
        assert readers[0].numbers == readers[1].numbers
        assert readers[0].numbers == list(range(readers[0].numbers[0], readers[0].numbers[0] + 5))


async def test_who_comes_back_to_another_node_goes_on_with_the_next_event(store_url: str) -> None:
    async with reached(store_url) as one, reached(store_url) as other:
        reader = await one.reads()
        jobs = await one.submit(5)
        await reader.has(*jobs)
        reader.feed.close()
        jobs += await one.submit(2)
        for after, rest in ((reader.numbers[1], jobs[2:]), (reader.numbers[4], jobs[5:])):
            again = await other.reads(after=after)
            assert again.feed.resumed
            await again.has(*rest)
            again.feed.close()
        assert not (await other.reads(after=reader.numbers[4] + 100)).feed.resumed


async def test_a_new_node_goes_on_as_well(store_url: str) -> None:
    async with reached(store_url) as one:
        reader = await one.reads()
        jobs = await one.submit(3)
        await reader.has(*jobs)
        jobs += await one.submit(1)
    async with reached(store_url) as one:
        again = await one.reads(after=reader.numbers[0])
        assert again.feed.resumed
        await again.has(*jobs[1:])


async def test_without_a_reader_nothing_is_written(store_url: str, store: StoreServer) -> None:
    database = int(store_url.rpartition("/")[2])
    async with reached(store_url) as one:
        await one.submit(3)
        assert store.ask("EXISTS", "hw:{0}:ev", "hw:{0}:watched", database=database) == 0
        reader = await one.reads()
        jobs = await one.submit(2)
        await reader.has(*jobs)
        assert store.ask("XLEN", "hw:{0}:ev", database=database) == 2
        # As if no node had said for two minutes that there are readers.
        reader.feed.close()
        store.ask("DEL", "hw:{0}:watched", database=database)
        await one.submit(1)
        assert store.ask("XLEN", "hw:{0}:ev", database=database) == 2
    async with reached(store_url) as one:
        # So the place of before is none to go on from.
        again = await one.reads(after=reader.numbers[-1])
        assert not again.feed.resumed
        await again.has(*await one.submit(1))


async def test_a_node_that_is_slower_than_the_stream_says_how_much_was_missed(store_url: str) -> None:
    async with reached(store_url, kept=10) as one, reached(store_url, kept=10) as other:
        reader = await one.reads()
        # One write: the node has no chance to read between. The stream keeps whole nodes of entries.
        jobs = await other.submit(1000)
        async with asyncio.timeout(10):
            while reader.missed + len(reader.events) < 1000:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        assert reader.missed >= 980
        assert reader.jobs == jobs[reader.missed :]
        await other.submit(1)
        await asyncio.sleep(0.2)
        assert reader.missed + len(reader.events) == 1001


async def test_a_connection_that_is_lost_costs_no_event(store_url: str, store: StoreServer) -> None:
    async with reached(store_url) as one, reached(store_url) as other:
        reader = await one.reads(EventFilter(task="double"))
        jobs = []
        for _ in range(5):
            number, made = await one.store.call(one.store.keys[0], "CLIENT", "ID"), one.store.made
            store.ask("CLIENT", "KILL", "ID", number)
            jobs += await other.submit(2)
            async with asyncio.timeout(5):
                while one.store.made == made or not one.store.is_up:  # noqa: ASYNC110 — as a node sees it
                    await asyncio.sleep(0.005)
        await reader.has(*jobs)


async def test_readers_hear_of_events_that_the_store_has_lost(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with reached(server.url) as one:
            reader = await one.reads()
            jobs = await one.submit(2)
            await reader.has(*jobs)
            # It keeps nothing.
            server.restart()
            async with asyncio.timeout(20):
                while not reader.missed:  # noqa: ASYNC110 — as a client sees it
                    await asyncio.sleep(0.01)
            keys = one.store.keys[0]
            await one.store.call(keys, "SADD", keys.nodes, NODE)
            await one.submit(1)
            async with asyncio.timeout(5):
                while len(reader.events) < 3:  # noqa: ASYNC110 — as a client sees it
                    await asyncio.sleep(0.01)
            assert reader.numbers == sorted(set(reader.numbers))


async def test_who_reads_hears_that_somebody_has_emptied_the_store(store_url: str, store: StoreServer) -> None:
    database = int(store_url.rpartition("/")[2])
    async with reached(store_url) as one:
        reader = await one.reads()
        await reader.has(*await one.submit(2))
        store.ask("FLUSHDB", database=database)
        async with asyncio.timeout(5):
            while not reader.missed:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        keys = one.store.keys[0]
        await one.store.call(keys, "SADD", keys.nodes, NODE)
        events = len(reader.events)
        await one.submit(1)
        async with asyncio.timeout(5):
            while len(reader.events) == events:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        assert reader.numbers == sorted(set(reader.numbers))


async def test_who_reads_hears_that_a_replica_has_not_all_events(store_url: str) -> None:
    """It became the primary before it had the last ones, and gives their places to others."""
    async with reached(store_url) as one:
        reader = await one.reads()
        await reader.has(*await one.submit(3))
        keys, call = one.store.keys[0], one.store.call
        name, values = (await call(keys, "XRANGE", keys.events, "-", "+"))[0]
        await call(keys, "DEL", keys.events)
        await call(keys, "XADD", keys.events, name, *values)
        # As after a new connection.
        one.events.up()
        async with asyncio.timeout(5):
            while not reader.missed:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        (late,) = await one.submit(1)
        async with asyncio.timeout(5):
            while reader.jobs[-1] != late:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        assert reader.numbers == sorted(set(reader.numbers))


async def test_of_several_partitions_each_event_is_told_once(store_url: str) -> None:
    async with reached(f"{store_url}?partitions=3") as one, reached(f"{store_url}?partitions=3") as other:
        readers = [await node.reads() for node in (one, other)]
        jobs = []
        for number in range(12):
            jobs += await (one, other)[number % 2].submit(2, partition=number % 3)
        for reader in readers:
            async with asyncio.timeout(5):
                while len(reader.events) < 24:  # noqa: ASYNC110 — as a client sees it
                    await asyncio.sleep(0.01)
            assert sorted(reader.jobs) == sorted(jobs)
            assert reader.numbers == sorted(set(reader.numbers))
            assert reader.missed == 0
        # Who comes back misses none, and gets those of the last second again.
        again = await other.reads(after=readers[0].numbers[-1])
        assert again.feed.resumed
        jobs += await one.submit(1, partition=1)
        async with asyncio.timeout(5):
            while jobs[-1] not in again.jobs:  # noqa: ASYNC110 — as a client sees it
                await asyncio.sleep(0.01)
        assert set(again.jobs) <= set(jobs)


async def test_while_the_store_is_away_nobody_can_begin_to_read(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with reached(server.url) as one:
            server.kill()
            with pytest.raises(EngineAwayError):
                await known(one.events.watch(EVERYTHING, None))
            server.start()
            feed = None
            async with asyncio.timeout(5):
                while feed is None:
                    # It has kept nothing, so the node learns other ids first.
                    with suppress(EngineAwayError):
                        feed = (await one.reads()).feed
                    await asyncio.sleep(0.01)
            assert not feed.resumed
