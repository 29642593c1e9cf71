"""A node whose store is away: nothing wrong is told, nothing is taken, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
from headway.core.audit import Act
from headway.core.errors import EngineAwayError, EngineFullError, HeadwayError, MisdirectedError, OutcomeUnknownError
from headway.core.interface import Engine, Later
from headway.core.job import Reason, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.later import known
from headway.core.link.wire import SILENT_S
from headway.core.status import Status
from headway.core.store.keys import Keyspace
from headway.core.tasks.context import Context

from tests.core.contract.client import (
    asked_for,
    becomes,
    cancel,
    counts,
    finished,
    jobs_of,
    peek,
    states,
    submit,
    submit_batch,
    until,
)
from tests.core.contract.conftest import started
from tests.core.engines import at_last, double, forever
from tests.store_proxy import Way, way_to
from tests.valkey_servers import StoreServer, serving

# Servers that die, part and come back take their time.
pytestmark = pytest.mark.long

KEYS = Keyspace(0)
# Longer than a call waits for the store.
LONG_S = 2.3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    """A store that keeps all that it has acknowledged over a SIGKILL."""
    with serving(tmp_path / "store", appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def way(server: StoreServer) -> Iterator[Way]:
    """The way of a node to the store."""
    with way_to(server.port) as way:
        yield way


def node(url: str) -> AbstractAsyncContextManager[Engine]:
    """Run a node."""
    return started({"engine": url}, double, forever, workers=4)


async def is_ready(engine: Engine) -> None:
    """Wait until the node serves again."""
    async with asyncio.timeout(10):
        while True:
            if engine.not_ready is None:
                # A store that has just begun may drop a connection once more.
                with suppress(EngineAwayError):
                    await known(engine.peek_key("nobody"))
                    return
            await asyncio.sleep(0.01)


async def test_a_store_that_is_away_takes_nothing_and_nothing_waits_in_memory(server: StoreServer) -> None:
    async with node(server.url) as engine:
        assert engine.durability == "disk"
        job = await finished(engine, await submit(engine, "double", 1))
        server.kill()
        await asyncio.sleep(LONG_S)
        waits = set()
        for number in range(20):
            begun = time.monotonic()
            with pytest.raises(EngineAwayError) as refused:
                await known(engine.submit(asked_for("double", number)))
            assert time.monotonic() - begun < 0.1
            assert 1 <= refused.value.retry_after_s <= 3
            waits.add(round(refused.value.retry_after_s, 2))
        # Not all clients come back at the same time.
        assert len(waits) > 5
        with pytest.raises(EngineAwayError):
            await known(engine.submit_batch([asked_for("double", 1)]))
        assert engine.not_ready is not None
        assert "the store cannot be reached" in engine.not_ready
        server.start()
        await is_ready(engine)
        assert (await peek(engine, job)).state == State.SUCCEEDED
        assert sum((await counts(engine)).jobs) == 1
        assert (await finished(engine, await submit(engine, "double", 2))).state == State.SUCCEEDED


@pytest.mark.parametrize("is_known", [True, False], ids=["known to be away", "lost under way"])
async def test_an_entry_that_the_store_does_not_get_leaves_once_it_is_back(server: StoreServer, is_known: bool) -> None:
    async with node(server.url) as engine:
        await known(engine.cancel(await submit(engine, "forever", delay=1000), Act("cancelJob")))
        server.kill()
        if is_known:
            await asyncio.sleep(LONG_S)
        engine.note(Act("reloadTokens"))
        if not is_known:
            await asyncio.sleep(LONG_S)
        with pytest.raises(EngineAwayError):
            await known(engine.audit(0, 9))
        server.start()
        await is_ready(engine)

        async def whats() -> list[str]:
            return [entry.act.what for entry in await known(engine.audit(0, 9))]

        async def has_come() -> bool:
            return await whats() != ["cancelJob"]

        await until(has_come)
        assert await whats() == ["reloadTokens", "cancelJob"]


async def test_a_change_whose_client_has_gone_is_noted(server: StoreServer) -> None:
    async with node(server.url) as engine:
        job = await submit(engine, "forever", delay=1000)
        ending = engine.cancel(job, Act("cancelJob"))
        assert isinstance(ending, Later)
        ending.when_known(int)
        ending.cancel()

        async def is_noted() -> bool:
            return len(await known(engine.audit(0, 9))) == 1

        await until(is_noted)
        assert (await peek(engine, job)).state == State.CANCELLED


async def test_what_has_finished_is_told_while_the_store_is_away_and_nothing_else_is(server: StoreServer) -> None:
    async with node(server.url) as engine:
        done = await finished(engine, await submit(engine, "double", 1))
        runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        unread = await submit(engine, "double", 2)
        await asyncio.sleep(0.1)
        server.kill()
        await asyncio.sleep(LONG_S)
        assert await peek(engine, done) == done
        for job in (runs, unread):
            with pytest.raises(EngineAwayError):
                await known(engine.peek(job.id))
        for asked in (
            lambda: engine.peek_key("key"),
            lambda: engine.result(done),
            lambda: engine.cancel(runs),
            lambda: engine.log(runs),
            lambda: engine.retry(done, Key.of("key", b"")),
            lambda: engine.replay(Key.of("key", b"")),
        ):
            with pytest.raises(EngineAwayError):
                await known(asked())
        # What was never issued is not known to be a job of anybody.
        assert await known(engine.peek(done.id[:-1] + (b"0" if done.id[-1:] != b"0" else b"1"))) is None
        server.start()
        await is_ready(engine)
        assert await states(engine, [done, unread]) == [State.SUCCEEDED] * 2
        assert (await peek(engine, runs)).state == State.RUNNING


async def test_what_is_no_longer_kept_is_not_told_while_the_store_is_away(server: StoreServer) -> None:
    async with started({"engine": server.url}, double, retention={"seconds": LONG_S + 2}) as engine:
        done = await finished(engine, await submit(engine, "double", 1))
        server.kill()
        await asyncio.sleep(LONG_S)
        assert await peek(engine, done) == done
        await asyncio.sleep(max(done.kept_until - time.time(), 0) + 0.1)
        with pytest.raises(EngineAwayError):
            await known(engine.peek(done.id))
        server.start()
        await is_ready(engine)
        assert (await peek(engine, done)).state == State.EXPIRED


async def test_a_read_that_waits_for_the_store_in_vain_says_that_it_is_away(server: StoreServer) -> None:
    """Nobody is told that the job is gone."""
    async with node(server.url) as engine:
        job = await submit(engine, "double", 1)
        server.kill()
        with pytest.raises(EngineAwayError):
            async with asyncio.timeout(LONG_S + 2):
                await known(engine.peek(job.id))
        server.start()
        await is_ready(engine)
        assert (await finished(engine, job)).state == State.SUCCEEDED


async def test_a_read_that_waits_is_answered_as_soon_as_the_store_is_back(server: StoreServer) -> None:
    """Not at the end of its patience."""
    async with node(server.url) as engine:
        job = await submit(engine, "double", 1)
        await finished(engine, job)
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        began = time.monotonic()
        assert await known(engine.peek_key("nobody")) is None
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("bytes_after", [0, 1, 40, 200])
async def test_a_lost_connection_loses_and_doubles_nothing(way: Way, bytes_after: int) -> None:
    """Submissions go on while the connection is cut in the middle of replies. None is refused or accepted twice."""
    async with node(way.url) as engine:

        async def submitted(number: int) -> Status:
            await asyncio.sleep(number % 10 * 0.02)
            return (await known(engine.submit(asked_for("double", number)))).status

        async def cut() -> None:
            for _ in range(4):
                await asyncio.sleep(0.05)
                way.cut_after(bytes_after)

        jobs, _ = await asyncio.gather(asyncio.gather(*map(submitted, range(300))), cut())
        assert len({job.id for job in jobs}) == 300
        for job in jobs:
            assert (await finished(engine, job)).state == State.SUCCEEDED
        assert sum((await counts(engine)).jobs) == 300


async def test_an_outcome_that_is_unknown_is_said_to_be_and_the_key_makes_a_retry_safe(way: Way) -> None:
    async with node(way.url) as engine:
        await finished(engine, await submit(engine, "double", 0))
        key = Key.of("safe", b"content")
        way.part()
        pending = engine.submit(asked_for("double", 1), key)
        with pytest.raises(OutcomeUnknownError, match="same Idempotency-Key"):
            async with asyncio.timeout(SILENT_S + 2 * LONG_S + 1):
                await known(pending)
        way.heal()
        await is_ready(engine)
        one = await known(engine.submit(asked_for("double", 1), key))
        two = await known(engine.submit(asked_for("double", 1), key))
        assert one.status.id == two.status.id
        assert (await finished(engine, one.status)).state == State.SUCCEEDED
        assert sum((await counts(engine)).jobs) == 2


async def test_who_waits_is_woken_by_an_end_that_nobody_heard(server: StoreServer, way: Way) -> None:
    """The job ends at another node while the connection of this one is lost."""
    async with node(server.url) as other, node(way.url) as engine:
        job = await submit(other, "double", 1, delay=0.5)
        later = engine.wait(await peek(engine, job), 8.0)
        woken = asyncio.Event()
        later.when_known(woken.set)
        await asyncio.sleep(0.1)
        way.part()
        await asyncio.sleep(0.8)
        assert not woken.is_set()
        way.cut()
        way.heal()
        async with asyncio.timeout(3):
            await woken.wait()
        assert (await known(engine.peek(job.id)) or job).state == State.SUCCEEDED


@pytest.mark.parametrize("wanted", ["batch", "batch that is gone", "log"])
async def test_who_waits_for_more_than_a_job_is_woken_by_what_nobody_heard(
    server: StoreServer, way: Way, wanted: str
) -> None:
    async def talks(_: object, context: Context) -> None:
        await asyncio.sleep(0.5)
        context.log("more")
        await asyncio.sleep(60)

    kept = {"seconds": 0.2 if wanted == "batch that is gone" else 60}
    run = partial(started, {"engine": server.url}, double, talks, retention=kept)
    async with run() as other, started({"engine": way.url}, workers=1) as engine:
        if wanted != "log":
            batch = await submit_batch(other, "double", "talks")
            job = (await jobs_of(other, JobFilter(task="talks")))[0]
            later: Later[object] = engine.wait_batch(batch, 20.0)
        else:
            job = await becomes(other, await submit(other, "talks"), State.RUNNING)
            later = engine.wait_log(job, 0, 20.0)
        woken = asyncio.Event()
        later.when_known(woken.set)
        await asyncio.sleep(0.1)
        way.part()
        await asyncio.sleep(0.8)
        if wanted != "log":
            await cancel(other, job)
        if wanted == "batch that is gone":
            await asyncio.sleep(0.4)
        assert not woken.is_set()
        way.cut()
        way.heal()
        async with asyncio.timeout(3):
            await woken.wait()


async def test_a_job_that_was_forgotten_meanwhile_is_told_as_gone(server: StoreServer, way: Way) -> None:
    """A finished job does not change, but it is kept no longer. Nobody tells of that over a lost connection."""
    kept = {"retention": {"jobs": 1}}
    async with started({"engine": server.url}, double, **kept) as other, started({"engine": way.url}, **kept) as engine:
        done = await finished(other, await submit(other, "double", 1))
        assert await peek(engine, done) == done
        way.part()
        await finished(other, await submit(other, "double", 2))
        assert (await peek(other, done)).state == State.EXPIRED
        assert await peek(engine, done) == done
        way.cut()
        way.heal()
        await becomes(engine, done, State.EXPIRED)


async def test_who_waits_is_answered_when_the_time_is_up(server: StoreServer) -> None:
    async with node(server.url) as engine:
        runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        later = engine.wait(runs, LONG_S + 0.5)
        server.kill()
        with pytest.raises(EngineAwayError):
            async with asyncio.timeout(LONG_S + 2):
                await at_last(later)
        server.start()
        await is_ready(engine)


async def test_ids_of_a_store_that_was_emptied_are_of_another_one(server: StoreServer) -> None:
    async with node(server.url) as engine, node(server.url) as other:
        job = await finished(engine, await submit(engine, "double", 1))
        runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        server.ask("FLUSHALL")
        for one in (engine, other):
            for lost in (job, runs):
                await is_elsewhere(one, lost)
        for one in (engine, other):
            await is_ready(one)
            again = await submit_at_last(one)
            assert (await finished(one, again)).state == State.SUCCEEDED
            assert (await finished(other, again)).state == State.SUCCEEDED
        # The attempt of a job that is no more was interrupted.
        assert (await counts(engine)).workers.idle == 4


async def test_a_node_is_not_ready_while_its_store_is_full(server: StoreServer) -> None:
    """Nobody may submit to it meanwhile, so it looks for room by itself."""
    async with node(server.url) as engine:
        await finished(engine, await submit(engine, "double", 1))
        server.ask("CONFIG", "SET", "maxmemory", "1")
        # It is not known before a submission is refused.
        assert engine.not_ready is None
        with pytest.raises(EngineFullError):
            await submit(engine, "double", 1)
        for _ in range(2):
            assert engine.not_ready == "the store is full: it has reached its maxmemory"
            # Chores have looked meanwhile.
            await asyncio.sleep(1.2)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await is_ready(engine)
        await finished(engine, await submit(engine, "double", 2))


async def test_a_store_that_was_restarted_takes_text_and_end_of_a_job_at_once(server: StoreServer) -> None:
    """It knows no script any more. One that it has to be given comes later than those behind it."""

    async def tells(_: object, context: Context) -> None:
        context.log("text")

    async with started({"engine": server.url}, tells, workers=1) as engine:
        server.kill()
        server.start()
        await is_ready(engine)
        job = await finished(engine, await submit(engine, "tells"))
        assert bytes((await known(engine.log(job))).head) == b"text\n"


async def test_numbers_follow_one_another_while_the_store_goes_on(server: StoreServer) -> None:
    async with node(server.url) as engine:
        jobs = [await submit(engine, "double", number) for number in range(3)]
        assert [job.sequence - jobs[0].sequence for job in jobs] == [0, 1, 2]


async def test_a_deadline_is_kept_while_all_workers_are_busy(server: StoreServer) -> None:
    async with node(server.url) as engine:
        for busy in [await submit(engine, "forever") for _ in range(4)]:
            await becomes(engine, busy, State.RUNNING)
        for _ in range(3):
            job = await finished(engine, await submit(engine, "double", 1, deadline=0.1))
            assert job.reason == Reason.DEADLINE
            assert job.ended - job.submitted < 0.5


async def test_a_number_that_the_store_has_lost_is_given_to_no_other_job(server: StoreServer) -> None:
    async with node(server.url) as engine:
        jobs = [await finished(engine, await submit(engine, "double", number)) for number in range(3)]
        server.kill()
        server.start()
        await is_ready(engine)
        # As if the last writes had not been on the disk.
        server.ask("SET", KEYS.prefix + b"n", 1)
        server.ask("UNLINK", *(KEYS.job(job.sequence) for job in jobs[1:]))
        again = [await submit(engine, "double", number) for number in range(2)]
        assert not {job.id for job in jobs} & {job.id for job in again}
        assert await states(engine, jobs) == [State.SUCCEEDED, State.EXPIRED, State.EXPIRED]
        for job in again:
            assert (await finished(engine, job)).state == State.SUCCEEDED


async def test_who_waits_hears_that_the_store_was_emptied(server: StoreServer) -> None:
    """Not that the job is gone, nor of another job with its number."""
    async with node(server.url) as engine:
        runs = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        waits = [engine.wait(runs, 60.0), engine.wait_log(runs, 0, 60.0)]
        ended = [asyncio.create_task(at_last(later)) for later in waits]
        await asyncio.sleep(0.1)
        server.ask("FLUSHALL")
        for one in ended:
            with pytest.raises(MisdirectedError):
                async with asyncio.timeout(5):
                    await one


async def is_elsewhere(engine: Engine, job: Status) -> None:
    """See that a job is never said to be gone, and soon to be of another store."""
    async with asyncio.timeout(5):
        while True:
            try:
                status = await known(engine.peek(job.id))
            except MisdirectedError:
                return
            except EngineAwayError:
                status = job
            assert status is not None
            assert status.state != State.EXPIRED
            await asyncio.sleep(0.005)


async def submit_at_last(engine: Engine) -> Status:
    """Submit as a client does that comes back."""
    async with asyncio.timeout(5):
        while True:
            with suppress(HeadwayError):
                return await submit(engine, "double", 1)
            await asyncio.sleep(0.05)


async def test_two_nodes_tell_the_same_and_wake_each_others_clients(store_url: str) -> None:
    run = partial(started, {"engine": store_url}, double, forever, workers=2)
    async with run() as one, run() as two:
        for _ in range(20):
            job = await submit(one, "double", 1, delay=0.05)
            later = two.wait(await peek(two, job), 5.0)
            ended = await at_last(later)
            assert ended.state == State.SUCCEEDED
            assert time.time() - ended.ended < 0.1
            assert await peek(one, job) == ended
        # Facts that were read are not read again.
        asked = (await counts(two)).store
        for _ in range(1000):
            assert await known(two.peek(job.id)) == ended
        told = (await counts(two)).store
        assert asked is not None
        assert told is not None
        assert told.cache_misses == asked.cache_misses
        assert told.cache_hits >= asked.cache_hits + 1000
