"""A job that waits gets another priority, or another time at which it is ready."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from headway.core.errors import InvalidError, NotWaitingError, QueueFullError
from headway.core.interface import Engine, Soon
from headway.core.job import Revision, State
from headway.core.status import Status

from tests.core.contract.client import (
    asked_for,
    batch_finished,
    becomes,
    cancel,
    counts,
    finished,
    peek,
    peek_batch,
    submit,
    submit_batch,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

NOW = Revision(delay=0)
# A job that is ready may have begun, or ended, by the time that it is told.
READY = {State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED}


async def done(soon: Soon[Any]) -> None:
    """Wait for an answer."""
    await known(soon)


async def revise(engine: Engine, job: Status, revision: Revision) -> Status:
    """Change a job as it is."""
    return await known(engine.revise(await peek(engine, job), revision))


async def test_a_scheduled_job_runs_now(engine: Engine) -> None:
    job = await submit(engine, "double", 21, delay=1000)
    assert (await revise(engine, job, NOW)).state in READY
    done = await finished(engine, job)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 1)


async def test_a_retrying_job_runs_now(start: Start) -> None:
    async with start(broken, jobs={"backoff": 600, "backoff_max": 600}) as engine:
        job = await becomes(engine, await submit(engine, "broken", retries=1), State.RETRYING)
        assert (await revise(engine, job, NOW)).state in READY
        done = await finished(engine, job)
        assert (done.state, done.attempt) == (State.FAILED, 2)


async def test_a_queued_job_is_put_off_and_back(start: Start) -> None:
    async with start(forever, double, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        job = await submit(engine, "double", 1)
        later = await revise(engine, job, Revision(delay=500))
        assert later.state == State.SCHEDULED
        assert 500_000 <= later.retry_after_ms < 510_000
        assert (await revise(engine, job, Revision(delay=100))).retry_after_ms < 110_000
        assert ((await counts(engine)).waiting, (await counts(engine)).jobs[State.SCHEDULED]) == (1, 1)
        assert (await revise(engine, job, NOW)).state == State.QUEUED
        assert (await revise(engine, job, NOW)).state == State.QUEUED
        assert (await counts(engine)).waiting == 1


async def test_a_job_that_is_changed_takes_one_place_of_the_queue(start: Start) -> None:
    async with start(forever, double, workers=1, queue={"size": 2}) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        job = await submit(engine, "double", 1)
        for revision in (Revision(delay=500), Revision(priority=9), NOW, Revision(priority=1)):
            await revise(engine, job, revision)
        await submit(engine, "double", 2)
        with pytest.raises(QueueFullError):
            await known(engine.submit(asked_for("double", 3)))


async def test_a_priority_is_changed(start: Start) -> None:
    async with start(forever, double, workers=1) as engine:
        blocking = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        jobs = [await submit(engine, "double", n) for n in range(4)]
        delayed = await submit(engine, "double", 9, delay=1000, priority=0)
        assert (await revise(engine, jobs[3], Revision(priority=9))).position == 0
        assert [(await peek(engine, job)).position for job in jobs] == [1, 2, 3, 0]
        assert (await revise(engine, delayed, Revision(priority=8))).position == 1
        assert (await revise(engine, jobs[0], Revision(priority=0, delay=0))).position == 3
        await cancel(engine, blocking)
        for job in jobs:
            assert (await finished(engine, job)).state == State.SUCCEEDED
        await cancel(engine, delayed)


@pytest.mark.parametrize("state", [State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED])
async def test_only_a_job_that_waits_is_changed(engine: Engine, state: State) -> None:
    task = {State.SUCCEEDED: "double", State.FAILED: "broken"}.get(state, "forever")
    job = await submit(engine, task, 1)
    if state == State.CANCELLED:
        await cancel(engine, job)
    await becomes(engine, job, state)
    with pytest.raises(NotWaitingError, match=f"This one is {state.name.lower()}"):
        await revise(engine, job, Revision(priority=1))


async def test_a_change_of_nothing_is_refused(engine: Engine) -> None:
    job = await submit(engine, "double", 1, delay=1000)
    with pytest.raises(InvalidError) as caught:
        await known(engine.revise(job, Revision()))
    assert caught.value.faults == [("", "expected at least one of priority, delay")]


async def test_of_many_changes_at_once_each_is_made(engine: Engine) -> None:
    job = await submit(engine, "double", 1, delay=1000)
    wanted = [Revision(priority=n, delay=2000 + n) for n in range(10)]
    found = await asyncio.gather(*(known(engine.revise(job, one)) for one in wanted))
    assert [status.state for status in found] == [State.SCHEDULED] * 10
    assert 2_009_000 <= (await peek(engine, job)).retry_after_ms < 2_080_000
    assert (await counts(engine)).waiting == 1


async def test_a_job_that_is_being_changed_is_cancelled_after_that(engine: Engine) -> None:
    job, batch = await submit(engine, "double", 1, delay=1000), await submit_batch(engine, *["forever"] * 20)
    waiting = (await known(engine.list_batch(batch)))[-1][0]
    last = await known(engine.peek(waiting))
    assert last is not None
    changed = [engine.revise(job, Revision(priority=1)), engine.revise(last, Revision(delay=1000))]
    given_up, all_given_up = engine.cancel(job), engine.cancel_batch(batch)
    await asyncio.gather(*map(done, [*changed, given_up, all_given_up]))
    assert (await peek(engine, job)).state == State.CANCELLED
    assert (await batch_finished(engine, await peek_batch(engine, batch))).cancelled == 20
    assert (await counts(engine)).waiting == 0


async def test_a_deadline_holds_for_a_job_that_was_put_off(engine: Engine) -> None:
    job = await submit(engine, "double", 1, delay=1000, deadline=0.2)
    await revise(engine, job, Revision(delay=2000))
    assert (await finished(engine, job)).state == State.FAILED


async def test_a_restart_keeps_the_terms(start: Start) -> None:
    async with start(forever, broken, double, workers=1, jobs={"backoff": 600, "backoff_max": 600}) as engine:
        durable = engine.durability != "memory"
        retrying = await becomes(engine, await submit(engine, "broken", retries=1), State.RETRYING)
        # As urgent as any, so that it is the first again.
        await becomes(engine, await submit(engine, "forever", priority=9), State.RUNNING)
        first, urgent = await submit(engine, "double", 1), await submit(engine, "double", 2)
        put_off, soon = await submit(engine, "double", 3), await submit(engine, "double", 4, delay=1000)
        await revise(engine, urgent, Revision(priority=9))
        await revise(engine, put_off, Revision(delay=1000))
        await revise(engine, soon, NOW)
        await revise(engine, retrying, Revision(delay=2000))
    if durable:
        async with start(forever, broken, double, workers=1) as engine:
            # The job that ran is the first again, and may not have begun yet.
            ready = [await peek(engine, job) for job in (urgent, first, soon)]
            assert [job.state for job in ready] == [State.QUEUED] * 3
            assert [job.position for job in ready] in ([0, 1, 2], [0, 2, 3], [1, 2, 3])
            later = await peek(engine, put_off)
            assert later.state == State.SCHEDULED
            assert 990_000 < later.retry_after_ms < 1_080_000
            again = await peek(engine, retrying)
            assert (again.state, again.attempt) == (State.RETRYING, 1)
            assert 1_990_000 < again.retry_after_ms < 2_080_000
            assert (await revise(engine, again, NOW)).state == State.QUEUED
