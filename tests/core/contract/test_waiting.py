"""Clients that wait: for the end of a job or of a batch, and no longer than they say."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from headway.core.interface import Engine, Later
from headway.core.job import State

from tests.core.contract.client import becomes, cancel, counts, finished, peek, peek_batch, submit, submit_batch
from tests.core.engines import PATIENCE_S, at_last, known

# What is waited for; and what ends it.
Waiting = tuple[Later[Any], Callable[[], Coroutine[Any, Any, object]]]


class Woken:
    """How often a client was woken."""

    def __init__(self) -> None:
        self.times = 0
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self._event.set()

    async def wait(self) -> None:
        """Wait until it is, the first time."""
        async with asyncio.timeout(PATIENCE_S):
            await self._event.wait()


async def for_a_job(engine: Engine, seconds: float) -> Waiting:
    job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    return engine.wait(job, seconds), lambda: cancel(engine, job)


async def for_a_batch(engine: Engine, seconds: float) -> Waiting:
    batch = await submit_batch(engine, "forever", "double", "forever")
    return engine.wait_batch(batch, seconds), lambda: known(engine.cancel_batch(batch))


BOTH = pytest.mark.parametrize("begin", [for_a_job, for_a_batch])
Begin = Callable[[Engine, float], Coroutine[Any, Any, Waiting]]


@BOTH
async def test_who_waits_is_woken_once_by_the_end(engine: Engine, begin: Begin) -> None:
    later, end = await begin(engine, PATIENCE_S)
    woken = Woken()
    later.when_known(woken)
    assert (woken.times, (await counts(engine)).waiting_clients) == (0, 1)
    await end()
    await woken.wait()
    assert later.value().state == State.CANCELLED
    assert (await counts(engine)).waiting_clients == 0
    # Too late, for both.
    later.hurry()
    later.cancel()
    await asyncio.sleep(0.01)
    assert woken.times == 1


@BOTH
async def test_who_waits_is_woken_when_the_time_is_up(engine: Engine, begin: Begin) -> None:
    later, _ = await begin(engine, 0.1)
    woken, begun = Woken(), time.monotonic()
    later.when_known(woken)
    await woken.wait()
    assert 0.1 <= time.monotonic() - begun < 1
    assert later.value().state == State.RUNNING
    assert (await counts(engine)).waiting_clients == 0


@BOTH
async def test_who_has_gone_is_not_woken(engine: Engine, begin: Begin) -> None:
    later, end = await begin(engine, PATIENCE_S)
    woken = Woken()
    later.when_known(woken)
    later.cancel()
    assert (await counts(engine)).waiting_clients == 0
    await end()
    await asyncio.sleep(0.01)
    assert woken.times == 0


@BOTH
async def test_who_is_hurried_is_woken_with_what_is_known_by_then(engine: Engine, begin: Begin) -> None:
    later, end = await begin(engine, PATIENCE_S)
    woken = Woken()
    later.when_known(woken)
    later.hurry()
    await woken.wait()
    assert later.value().state == State.RUNNING
    assert (await counts(engine)).waiting_clients == 0
    await end()
    await asyncio.sleep(0.01)
    assert woken.times == 1


async def test_who_waits_for_one_job_is_woken_whatever_others_do(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    woken = [Woken() for _ in range(20)]
    waits = [engine.wait(job, PATIENCE_S) for _ in woken]
    for later, wake in zip(waits, woken, strict=True):
        later.when_known(wake)
    assert engine.waiting == 20
    for later in waits[::2]:
        later.cancel()
    assert engine.waiting == 10
    await finished(engine, await submit(engine, "double", 1))
    assert [wake.times for wake in woken] == [0] * 20
    await cancel(engine, job)
    for wake in woken[1::2]:
        await wake.wait()
    assert [wake.times for wake in woken] == [0, 1] * 10
    assert engine.waiting == 0


async def test_a_batch_is_waited_for_until_its_last_job_has_ended(engine: Engine) -> None:
    batch = await submit_batch(engine, "forever", "forever", "forever")
    later, woken = engine.wait_batch(batch, PATIENCE_S), Woken()
    later.when_known(woken)
    jobs = [await known(engine.peek(job_id)) for job_id, _ in await known(engine.list_batch(batch))]
    for at in (2, 0):
        job = jobs[at]
        assert job is not None
        await cancel(engine, job)
        await asyncio.sleep(0.005)
        assert (woken.times, (await peek_batch(engine, batch)).state) == (0, State.RUNNING)
    assert jobs[1] is not None
    await cancel(engine, jobs[1])
    await woken.wait()
    assert (later.value().pending, later.value().cancelled, woken.times) == (0, 3, 1)


async def test_a_job_that_has_ended_meanwhile_is_told_as_it_ended(engine: Engine) -> None:
    job = await submit(engine, "double", 1)
    later = engine.wait(job, 0.0)
    await finished(engine, job)
    assert await at_last(later) == await peek(engine, job)
