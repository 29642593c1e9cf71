"""Dead nodes: each of their jobs is taken up once, and nothing of a living one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from headway.core.job import State
from headway.core.nodes.heartbeat import Heartbeat, client_of
from headway.core.nodes.reaper import Reaper
from headway.core.retention import DEFAULT
from headway.core.store.changes import REAPED_MOST, join_arguments, read_reaped, reap_arguments
from headway.core.store.scripts import JOIN, REAP, STEP
from headway.core.store.steps import FreePlaces, read_step, step_arguments
from headway.core.task import Lane

from tests.core.nodes.nodes import IDS, KEYS, Client, client, soon, told

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long

MISSING_S = 0.3


@asynccontextmanager
async def reaping(url: str, missing_s: float = MISSING_S) -> AsyncIterator[Reaper]:
    """Reap with a link of its own."""
    async with client(url) as own:
        reaper = Reaper(
            KEYS,
            own.link,
            DEFAULT,
            lanes={"task": "loop"},
            marker=lambda: IDS.marker,
            name=lambda sequence: f"job-{sequence}",
            missing_s=missing_s,
        )
        reaper.start()
        try:
            yield reaper
        finally:
            await reaper.stop()


async def claim(outside: Client, node: str, count: int, alive_ms: int) -> list[int]:
    """Have a node claim new jobs, and return their numbers."""
    jobs = await outside.submit("task", count=count)
    words = join_arguments(IDS.marker, node.encode(), alive_ms, {"task": (Lane.LOOP, None)})
    await outside.link.run(JOIN, [KEYS.counts], *words)
    call = claimed = 0
    while claimed < count:
        # A step begins so many jobs at the most.
        call, left = call + 1, count - claimed
        room = FreePlaces(left, loop=left, thread=0, process=0)
        step = step_arguments(IDS.marker, node.encode(), call, [], kept=DEFAULT, room=room)
        reply = read_step(await outside.link.run(STEP, [KEYS.counts], *step))
        assert reply.claimed
        claimed += len(reply.claimed)
    return jobs


async def test_eight_reapers_take_each_job_once(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """V2: a thousand orphans."""
    async with client(store_url) as outside, AsyncExitStack() as stack:
        jobs = await claim(outside, "dead", 1000, alive_ms=200)
        reapers = [await stack.enter_async_context(reaping(store_url)) for _ in range(8)]
        await soon(lambda: sum(reaper.taken for reaper in reapers) >= 1000)
        # Another round of each.
        await asyncio.sleep(2 * MISSING_S)
        assert sum(reaper.taken for reaper in reapers) == 1000
        line = await outside.link.call("LRANGE", KEYS.line(5, "task"), 0, -1)
        # At the front of their line, in the order of before.
        assert [int(entry) for entry in line] == jobs
        assert {await outside.state(job) for job in jobs} == {State.QUEUED}
        lines = [
            message for message in caplog.messages if "failed (crashed): was running when its node died" in message
        ]
        assert len(lines) == len(set(lines)) == 1000
        assert await outside.link.call("KEYS", "*dead*") == []


async def test_others_go_on_with_what_a_reaper_has_left(store_url: str) -> None:
    """V3: it died after its first call."""
    async with client(store_url) as outside:
        jobs = await claim(outside, "dead", 500, alive_ms=1)
        words = reap_arguments(IDS.marker, b"dead", kept=DEFAULT, lanes={}, missing_ms=0)
        reply = read_reaped(await outside.link.run(REAP, [KEYS.counts], *words))
        assert (reply.how, len(reply.jobs)) == ("more", REAPED_MOST)
        async with reaping(store_url) as reaper:
            await soon(lambda: reaper.taken == 500 - REAPED_MOST)
        line = await outside.link.call("LRANGE", KEYS.line(5, "task"), 0, -1)
        assert sorted(map(int, line)) == jobs
        assert await outside.link.call("KEYS", "*dead*") == []


async def test_nothing_is_taken_from_a_node_that_beats(store_url: str) -> None:
    async with client(store_url) as outside, reaping(store_url) as reaper:
        jobs = await claim(outside, "alive", 5, alive_ms=200)
        beats = Heartbeat(
            lambda: client_of(outside.address, "beats"), "alive", [(KEYS, lambda: True)], alive_ms=200, beat_s=0.05
        )
        beats.start()
        await asyncio.sleep(1.5)
        assert (reaper.taken, {await outside.state(job) for job in jobs}) == (0, {State.RUNNING})
        beats.stop()
        await soon(lambda: reaper.taken == 5)


async def test_a_heartbeat_that_is_missing_for_a_moment_is_none(store_url: str) -> None:
    """As after an outage. The next time the count begins anew."""
    async with client(store_url) as outside, reaping(store_url) as reaper:
        await claim(outside, "late", 5, alive_ms=1)
        for _ in range(4):
            await reaper.reap("late")
            await asyncio.sleep(MISSING_S / 2)
            await reaper.reap("late")
            await outside.link.call("SET", KEYS.heartbeat("late"), 1, "PX", 400)
            await asyncio.sleep(0.4)
            assert reaper.taken == 0
        await soon(lambda: reaper.taken == 5)


async def test_a_reaper_whose_link_was_lost_looks_later(store_url: str) -> None:
    """The links of the others may take as long to come back."""
    async with client(store_url) as outside, reaping(store_url, missing_s=2.0) as reaper:
        reaper.up()
        # It looks once a second, and would see that this one is late.
        await claim(outside, "late", 1, alive_ms=1)
        for _ in range(30):
            await asyncio.sleep(0.05)
            assert await outside.link.call("HKEYS", KEYS.late) == []
            reaper.up()

        async def is_seen() -> bool:
            return bool(await outside.link.call("HEXISTS", KEYS.late, "late"))

        await told(is_seen)
