"""The switches of tasks for all nodes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from headway.core.errors import InvalidError
from headway.core.hold import NO_HOLD, Switches, TaskHold
from headway.core.store.changes import read_switched, switch_arguments
from headway.core.store.scripts import SWITCH

from tests.core.valkey.stores import Reached, reached

HOLD, RUN = Switches(dispatch="hold"), Switches(dispatch="run", intake="open")


async def knows(node: Reached, hold: TaskHold, seconds: float = 1.0) -> None:
    async with asyncio.timeout(seconds):
        while node.holds.of("double") != hold:  # noqa: ASYNC110 — as a client sees it
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_all_nodes_hear_of_a_switch_within_a_second(store_url: str, partitions: int) -> None:
    url = f"{store_url}?partitions={partitions}"
    async with reached(url) as one, reached(url) as other:
        told = await one.holds.switch("double", Switches(dispatch="hold", reason="why"))
        assert told == one.holds.of("double") == TaskHold("hold", "open", None, "why")
        await knows(other, told)
        assert other.changed == ["double"]
        assert other.holds.held == {"double": told}
        assert await other.holds.switch("double", RUN) == NO_HOLD
        await knows(one, NO_HOLD)
        assert one.holds.held == {}


@pytest.mark.parametrize("partitions", [1, 3])
async def test_changes_of_many_nodes_at_once_are_all_made(store_url: str, partitions: int) -> None:
    url = f"{store_url}?partitions={partitions}"
    changes = [HOLD, Switches(intake="closed"), Switches(dispatch="hold", reason="x")]
    async with reached(url) as one, reached(url) as other, reached(url) as third:
        nodes = (one, other, third)
        for _ in range(20):
            await asyncio.gather(
                *(node.holds.switch("double", change) for node, change in zip(nodes, changes, strict=True))
            )
            for node in nodes:
                await knows(node, TaskHold("hold", "closed", None, "x"))
            kept = {await one.store.call(keys, "HGET", keys.hold, "double") for keys in one.store.keys}
            assert len(kept) == 1
            await one.holds.switch("double", RUN)
            for node in nodes:
                await knows(node, NO_HOLD)


async def test_an_older_version_does_not_come_over_a_newer_one(store_url: str) -> None:
    """Also if a node is slow, and the other has written to all partitions meanwhile."""
    async with reached(f"{store_url}?partitions=2") as one:
        await one.holds.switch("double", HOLD)
        await one.holds.switch("double", Switches(intake="closed"))
        keys = one.store.keys[1]
        newest = await one.store.call(keys, "HGET", keys.hold, "double")
        words = switch_arguments(b"", "double", before=None, after=b'{"version":1}', version=1)
        is_done, have = read_switched(await one.store.run(keys, SWITCH, *words[1:]))
        assert (is_done, have) == (False, newest)


async def test_a_switch_of_a_node_that_died_before_all_partitions_had_it_is_spread_by_others(store_url: str) -> None:
    async with reached(f"{store_url}?partitions=3") as other:
        store, text = other.store, b'{"dispatch":"hold","version":1}'
        words = switch_arguments(b"", "double", before=b"", after=text)
        assert read_switched(await store.run(store.keys[0], SWITCH, *words[1:])) == (True, text)
        await knows(other, TaskHold("hold"))
        async with asyncio.timeout(2):
            while {await store.call(keys, "HGET", keys.hold, "double") for keys in store.keys} != {text}:  # noqa: ASYNC110 — seen from outside
                await asyncio.sleep(0.005)


async def test_a_hold_ends_by_the_clock_of_the_store_on_all_nodes(store_url: str) -> None:
    async with reached(store_url) as one, reached(store_url) as other:
        until = datetime.fromtimestamp(time.time() + 0.4, UTC)
        await one.holds.switch("double", Switches(dispatch="hold", until=until))
        await knows(other, TaskHold("hold", "open", until.timestamp()))
        for node in (one, other):
            async with asyncio.timeout(2):
                while node.changed != ["double", "double"]:  # noqa: ASYNC110 — as a node sees it
                    await asyncio.sleep(0.01)
            assert (node.holds.of("double"), node.holds.held) == (NO_HOLD, {})
        assert time.time() >= until.timestamp() - 0.05


async def test_a_wrong_change_changes_nothing(store_url: str) -> None:
    async with reached(store_url) as one:
        with pytest.raises(InvalidError):
            one.holds.check("double", Switches())
        with pytest.raises(InvalidError):
            await one.holds.switch("double", Switches())
        assert one.holds.of("double") == NO_HOLD
