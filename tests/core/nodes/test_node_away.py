"""A store that is away, parted, restarted or emptied: what a node does meanwhile, and afterwards."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.link.reply_error import LinkLostError, StoreError
from headway.core.nodes import outbox
from headway.core.nodes.outbox import Outbox
from headway.core.store.record import LOG_FIELDS, decode_result, read_log
from headway.core.store.steps import FinishEnd
from headway.core.tasks.context import Context

from tests.core.engines import double
from tests.core.nodes.nodes import IDS, KEYS, SHORT, client, soon, standing, told
from tests.store_proxy import Way, way_to
from tests.valkey_servers import StoreServer, serving

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StoreServer]:
    """A store that writes all down, and may be killed."""
    with serving(tmp_path / "store", **ALWAYS) as server:
        yield server


@pytest.fixture
def way(store: StoreServer) -> Iterator[Way]:
    with way_to(store.port) as found:
        yield found


def by(way: Way, store: StoreServer, store_url: str) -> str:
    """Return the URL of the test's database by ``way``."""
    return store_url.replace(f":{store.port}/", f":{way.port}/")


async def quick(_: object) -> None:
    """End at once."""


async def test_a_store_that_was_away_gets_the_ends_of_jobs(own: StoreServer) -> None:
    """V7: it is restarted after three seconds; the node runs jobs within three more, and says why it did not."""
    gates = [asyncio.Event(), asyncio.Event()]

    async def waits(number: int) -> int:
        await gates[number].wait()
        return number

    async with standing(own.url, waits, quick) as node:
        running = await node.submit("waits", 0)
        [stays] = await node.submit("waits", 1)
        await node.running(stays)
        [due] = await node.submit("quick", delay_ms=1500)
        assert node.hands.why == ""
        own.kill()
        await soon(lambda: node.hands.why.startswith("the store cannot be reached: "))
        gates[0].set()
        await asyncio.sleep(3)
        # The end of the first waits here.
        assert len(node.hands.exchanges[0].outbox) == 1
        await asyncio.to_thread(own.start)
        back = time.monotonic()
        await soon(lambda: node.link.is_up)
        gates[1].set()
        found = await node.over(*running, due, stays)
        assert [(facts.state, facts.attempt) for facts in found] == [(State.SUCCEEDED, 1)] * 3
        assert time.monotonic() - back < 3
        assert node.hands.why == ""
        assert decode_result(await node.link.call("GET", KEYS.result(running[0]))).body == b"0"


async def test_connections_that_were_killed_are_back_within_three_seconds(own: StoreServer) -> None:
    """V7, and no connection of a heartbeat is missed for long."""
    async with standing(own.url, quick, times=SHORT) as node:
        await node.over(*await node.submit("quick"))
        own.ask("CLIENT", "KILL", "TYPE", "normal")
        own.ask("CLIENT", "KILL", "TYPE", "pubsub")
        killed, name = time.monotonic(), node.node.name
        async with asyncio.timeout(3), client(own.url) as outside:
            await outside.over(*await outside.submit("quick"))
        assert time.monotonic() - killed < 3
        await asyncio.sleep(1)
        assert node.node.name == name


async def test_no_job_is_lost_or_begun_twice_if_replies_are_lost(store: StoreServer, store_url: str, way: Way) -> None:
    """The step is sent again as it was: the store answers it as the first time."""
    began: list[int] = []

    async def counts(number: int) -> int:
        began.append(number)
        await asyncio.sleep(0.002)
        return number

    async with standing(by(way, store, store_url), counts, workers=10) as node, client(store_url) as outside:
        jobs = []
        for number in range(300):
            jobs += await outside.submit("counts", number)
            if number % 20 == 10:
                way.cut_after(number % 7 * 5)
            await asyncio.sleep(0.005)
        found = await outside.over(*jobs)
        assert {(facts.state, facts.attempt) for facts in found} == {(State.SUCCEEDED, 1)}
        assert sorted(began) == list(range(300))
        await soon(lambda: node.hands.exchanges[0].is_settled and node.link.is_up)
        assert node.hands.fences.count == 0
        # Nothing was claimed and not begun: the store counts what it gave to the node.
        _, _, given, *_ = (await outside.link.call("HGET", KEYS.prefix + b"steps", node.node.name)).split(b" ")
        assert int(given) == 300
        assert await outside.link.call("HGETALL", KEYS.prefix + b"busy") == {}


async def test_text_that_was_lost_on_its_way_is_sent_again(store: StoreServer, store_url: str, way: Way) -> None:
    """Nothing of it is missing, though a line may stand there twice."""
    said, gate = asyncio.Event(), asyncio.Event()

    async def tells(_: object, context: Context) -> None:
        context.log("before")
        await gate.wait()
        context.log("lost")
        said.set()
        await asyncio.sleep(0.5)
        context.log("after")

    async with standing(by(way, store, store_url), tells) as node, client(store_url) as outside:
        [job] = await outside.submit("tells")

        async def has_text() -> bool:
            return bool(await outside.link.call("EXISTS", KEYS.log(job)))

        await told(has_text)
        way.part()
        gate.set()
        await asyncio.wait_for(said.wait(), 5)
        # It has left by now.
        await asyncio.sleep(0.3)
        way.cut()
        way.heal()
        await outside.over(job)
        kept = read_log(await outside.link.call("HMGET", KEYS.log(job), *LOG_FIELDS))
        assert list(dict.fromkeys(kept.head.split())) == [b"before", b"lost", b"after"]
        assert node.hands.fences.count == 0


async def test_a_parted_node_loses_its_jobs_to_another(
    store: StoreServer, store_url: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Its outcome is dropped, with a line in the log; joined again it goes on under another name."""
    gate = asyncio.Event()

    async def waits(_: object, context: Context) -> int:
        if context.attempt == 1:
            await gate.wait()
        return context.attempt

    async with standing(by(way, store, store_url), waits, times=SHORT) as parted, client(store_url) as outside:
        [job] = await outside.submit("waits", retries=3)
        await outside.running(job)
        name = parted.node.name
        way.part()
        await soon(lambda: not parted.link.is_up)
        async with standing(store_url, waits, times=SHORT):
            [facts] = await outside.over(job)
            assert (facts.state, facts.attempt) == (State.SUCCEEDED, 2)
            gate.set()
            await soon(lambda: len(parted.hands) == 0)
            way.heal()
            await soon(lambda: parted.node.name != name and parted.hands.is_open)
        assert parted.hands.fences.count == 1
        job_id = IDS.write(job, IDS.tag(job)).decode()
        assert [line for line in caplog.messages if job_id in line and "dropped" in line] == [
            f"job {job_id}: the outcome of attempt 1 was dropped: the job was cancelled, or given to another node"
        ]
        assert decode_result(await outside.link.call("GET", KEYS.result(job))).body == b"2"
        [facts] = await outside.over(*await outside.submit("waits"))
        assert facts.node.decode() == parted.node.name


async def test_an_outage_makes_no_node_dead(own: StoreServer) -> None:
    """All heartbeats are over when the store is back. Each node has the time to beat again."""
    times = {"alive_ms": 1000, "beat_s": 0.2, "missing_s": 2.0}

    async def waits(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with standing(own.url, waits, times=times) as one, standing(own.url, waits, times=times) as two:
        names = {one.node.name, two.node.name}
        jobs = [job for _ in range(4) for job in await one.submit("waits", 4.0)]
        for job in jobs:
            await one.running(job)
        own.kill()
        await asyncio.sleep(2.5)
        await asyncio.to_thread(own.start)
        await soon(lambda: one.link.is_up)
        found = await one.over(*jobs)
        assert {(facts.state, facts.attempt) for facts in found} == {(State.SUCCEEDED, 1)}
        assert {one.node.name, two.node.name} == names


async def test_an_end_that_the_store_did_not_take_is_made_again_elsewhere(
    own: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The node says so when it ends while the store is away."""
    gate = asyncio.Event()

    async def waits(_: object, context: Context) -> int:
        await gate.wait()
        return context.attempt

    async with standing(own.url, waits, times=SHORT) as node:
        [job] = await node.submit("waits")
        await node.running(job)
        own.kill()
        await soon(lambda: not node.link.is_up)
        gate.set()
        await soon(lambda: len(node.hands.exchanges[0].outbox) == 1)
    assert caplog.messages[-1] == (
        "engine: ends of attempts that the store did not take: 1. Other nodes begin these jobs again"
    )
    own.start()
    async with standing(own.url, waits, times=SHORT) as node:
        [facts] = await node.over(job)
        assert (facts.state, facts.attempt) == (State.SUCCEEDED, 2)


async def test_a_store_that_was_emptied_is_begun_anew(own: StoreServer) -> None:
    """FLUSHALL: attempts are interrupted, and the node registers again once the keys are made."""
    interrupted = asyncio.Event()

    async def waits(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.set()

    async with standing(own.url, waits, quick) as node:

        async def make() -> None:
            await node.link.call("SETNX", KEYS.marker, IDS.marker)

        node.hands.membership.on_misplaced = make
        await node.running(*await node.submit("waits"))
        name = node.node.name
        own.ask("FLUSHALL")
        await asyncio.wait_for(interrupted.wait(), 3)
        await soon(lambda: node.node.name != name and node.hands.is_open)
        await node.over(*await node.submit("quick"))


async def test_a_store_that_was_emptied_does_not_look_like_a_node_that_was_declared_dead(
    own: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Another call may have heard first: then the store has the new marker, and does not know the node."""

    async def waits(_: object) -> None:
        await asyncio.Event().wait()

    async with standing(own.url, waits) as node:
        await node.running(*await node.submit("waits"))
        (exchange,) = node.hands.exchanges
        name, node.hands.ids = node.node.name, Ids()
        own.ask("FLUSHALL")
        own.ask("SET", KEYS.marker, node.hands.marker)
        exchange.outbox.put(ended(9, b""))
        exchange.ring()
        await soon(lambda: node.node.name != name and node.hands.is_open)
        told = [record.getMessage() for record in caplog.records if record.name.startswith("headway.core.nodes")]
        assert told == [
            "engine: the store has lost its jobs: 1 attempts are interrupted",
            f"job {IDS.write(9, IDS.tag(9)).decode()}: the outcome of attempt 1 was dropped: "
            "the store has lost the job",
        ]


async def test_a_refusal_that_comes_too_late_is_not_logged(own: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
    """A step was given up, since another call had heard first that the store was emptied."""
    async with standing(own.url, quick) as node:

        async def make() -> None:
            await node.link.call("SETNX", KEYS.marker, IDS.marker)

        node.hands.membership.on_misplaced = make
        await node.over(*await node.submit("quick"))
        (exchange,) = node.hands.exchanges
        await soon(lambda: exchange.is_settled)
        own.ask("FLUSHALL")
        exchange.ring()
        exchange.step()
        assert not exchange.is_settled
        exchange.reset()
        await node.link.call("PING")
        gc.collect()
        await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_job_that_comes_too_late_is_not_begun(own: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
    """It was claimed by a step that was given up: the node takes another name, and the job is not that one's."""
    began: list[int] = []

    async def counts(number: int) -> None:
        began.append(number)

    async with standing(own.url, counts) as node:
        await node.hands.drain(0.1)
        [job] = await node.submit("counts", 1)
        node.hands.resume()
        (exchange,) = node.hands.exchanges
        async with asyncio.timeout(5):
            while not exchange.asked:  # noqa: ASYNC110 — in the turn in which it leaves
                await asyncio.sleep(0)
        exchange.reset()
        await node.running(job)
        await asyncio.sleep(0.1)
        assert (began, len(node.hands)) == ([], 0)
        assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_nothing_acknowledged_is_lost_with_a_killed_store(own: StoreServer) -> None:
    """With appendfsync always: each job whose submission was answered ends, whatever was on the way."""
    async with standing(own.url, quick, double, workers=10) as node, client(own.url) as outside:
        accepted: list[int] = []
        refused = 0
        ending = asyncio.Event()

        async def load() -> None:
            nonlocal refused
            while not ending.is_set():
                try:
                    accepted.extend(await outside.submit("double", 21))
                except LinkLostError:
                    refused += 1
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0)

        loading = [asyncio.create_task(load())]
        for _ in range(5):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(own.restart)
        await asyncio.sleep(0.3)
        ending.set()
        await asyncio.gather(*loading)
        await soon(lambda: node.link.is_up and outside.link.is_up)
        found = await outside.over(*accepted)
        assert {(facts.state, facts.attempt) for facts in found} == {(State.SUCCEEDED, 1)}
        assert refused > 0


@pytest.mark.parametrize(("bytes_most", "most"), [(100, 1000), (1000, 3)])
def test_outboxes_are_full_together(monkeypatch: pytest.MonkeyPatch, bytes_most: int, most: int) -> None:
    """The bounds are those of the node, however many partitions its ends are for."""
    monkeypatch.setattr(outbox, "BYTES_MOST", bytes_most)
    monkeypatch.setattr(outbox, "FINISHES_MOST", most)
    one, other = boxes = Outbox(), Outbox()
    for sequence in range(3):
        boxes[sequence % 2].put(ended(sequence, b"x" * 20))
    assert not outbox.are_full(boxes)
    other.put(ended(9, b"x" * 50))
    assert outbox.are_full(boxes)
    assert [finish.sequence for finish in other.send()] == [1, 9]
    other.confirm()
    assert not outbox.are_full(boxes)
    assert (one.bytes, len(one), other.bytes, len(other)) == (40, 2, 0, 0)


def ended(sequence: int, result: bytes) -> FinishEnd:
    return FinishEnd(sequence=sequence, attempt=1, task="t", state=State.SUCCEEDED, result=result)


async def test_no_job_is_begun_while_the_outboxes_are_full(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever partition has the job, and whichever has not taken the ends."""
    async with standing(store_url, quick, times={"partitions": 2}) as node:
        other = node.hands.exchanges[1]
        with monkeypatch.context() as patched:
            patched.setattr(outbox, "FINISHES_MOST", -1)
            for keys in node.places:
                await node.submit("quick", keys=keys, partitions=2)
            answered = other.answered_at
            node.hands.ring()
            await soon(lambda: other.answered_at > answered)
            await asyncio.sleep(0.2)
            for keys in node.places:
                assert await node.link.call("HGET", keys.counts, "s:2") == b"1"
        node.hands.ring()

        async def is_over() -> bool:
            return [await node.link.call("HGET", keys.counts, "s:5") for keys in node.places] == [b"1", b"1"]

        await told(is_over)


async def test_a_step_that_the_store_refuses_is_sent_again(own: StoreServer) -> None:
    """Such as one whose disk is full: the node says so, and goes on by itself."""
    async with standing(own.url, quick, times=SHORT) as node:
        await node.over(*await node.submit("quick"))
        own.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError):
            await node.submit("quick")
        own.ask("CONFIG", "SET", "maxmemory", "0")
        await node.over(*await node.submit("quick"))


@pytest.mark.long
def test_a_node_that_is_parted_for_half_a_minute(store: StoreServer, store_url: str, way: Way) -> None:
    """With the times that nodes have, under load: no job is stuck, and none ends wrongly."""
    asyncio.run(_parted_for(30, store_url, by(way, store, store_url), way))


async def _parted_for(seconds: float, store_url: str, url: str, way: Way) -> None:
    async def waits(payload: float) -> float:
        await asyncio.sleep(payload)
        return payload

    jobs: dict[int, float] = {}
    async with (
        standing(url, waits, workers=10) as parted,
        standing(store_url, waits, workers=10) as other,
        client(store_url) as outside,
    ):
        name = parted.node.name

        async def load(until: float) -> None:
            while time.monotonic() < until:
                payload = random.choice([0.0, 0.05, 0.5])
                jobs.update(dict.fromkeys(await outside.submit("waits", payload, count=5), payload))
                await asyncio.sleep(0.1)

        await load(time.monotonic() + 2)
        # Both nodes run some of these when they are parted.
        jobs.update(dict.fromkeys(await outside.submit("waits", 0.5, count=20), 0.5))
        await asyncio.sleep(0.1)
        way.part()
        await load(time.monotonic() + seconds)
        way.heal()
        await load(time.monotonic() + 3)
        found = await outside.over(*jobs)
        assert {facts.state for facts in found} == {State.SUCCEEDED}
        assert max(facts.attempt for facts in found) == 2
        results = [decode_result(await outside.link.call("GET", KEYS.result(job))).body for job in jobs]
        assert list(map(float, results)) == list(jobs.values())
        await soon(lambda: parted.hands.is_open and parted.node.name != name)
        assert len(parted.hands) == len(other.hands) == 0
        assert await outside.link.call("HGETALL", KEYS.prefix + b"busy") == {}
        # Both run jobs again.
        assert {facts.node.decode() for facts in found[-50:]} == {parted.node.name, other.node.name}
