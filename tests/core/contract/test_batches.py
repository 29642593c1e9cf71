"""Batches: jobs that are taken together, counted together, and given up together."""

import asyncio

import pytest
from headway.core.errors import DrainingError, QueueFullError, UnknownTaskError
from headway.core.interface import Engine
from headway.core.job import State

from tests.core.contract.client import (
    asked_for,
    batch_finished,
    becomes,
    counts,
    finished,
    peek_batch,
    submit,
    submit_batch,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known


async def test_jobs_of_a_batch_are_told_in_the_order_of_their_submission(engine: Engine) -> None:
    batch = await submit_batch(engine, "forever", *["double"] * 999)
    assert (batch.count, batch.pending, batch.state) == (1000, 1000, State.RUNNING)
    jobs = await known(engine.list_batch(batch))
    found = [await known(engine.peek(job_id)) for job_id, _ in jobs]
    assert [job.task for job in found if job] == ["forever", *["double"] * 999]
    assert len({job_id for job_id, _ in jobs}) == 1000
    assert found[0] is not None
    await becomes(engine, found[0], State.RUNNING)
    cancelled = await known(engine.cancel_batch(batch))
    assert cancelled.running
    assert (cancelled.status.pending, cancelled.status.state) == (0, State.CANCELLED)
    after = await known(engine.list_batch(batch))
    assert [job_id for job_id, _ in after] == [job_id for job_id, _ in jobs]
    assert after[0][1] == State.CANCELLED
    assert [state for _, state in after].count(State.CANCELLED) == cancelled.status.cancelled


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        (["double", "double"], State.SUCCEEDED),
        (["double", "broken"], State.FAILED),
        (["broken", "double"], State.FAILED),
    ],
)
async def test_a_batch_is_over_when_all_its_jobs_are(engine: Engine, tasks: list[str], state: State) -> None:
    batch = await submit_batch(engine, *tasks)
    assert batch.retry_after_ms > 0
    status = await batch_finished(engine, batch)
    assert (status.id, status.count, status.state, status.retry_after_ms) == (batch.id, 2, state, 0)
    assert (status.pending, status.cancelled, status.expired) == (0, 0, 0)
    assert (status.succeeded, status.failed) == (tasks.count("double"), tasks.count("broken"))
    # Giving it up changes nothing.
    cancelled = await known(engine.cancel_batch(status))
    assert (cancelled.running, cancelled.status) == (False, status)
    assert await peek_batch(engine, batch) == status


async def test_a_batch_of_which_no_job_runs_is_given_up_without_interrupting_any(start: Start) -> None:
    async with start(forever, double, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        cancelled = await known(engine.cancel_batch(await submit_batch(engine, "double", "double")))
        assert (cancelled.running, cancelled.status.cancelled) == (False, 2)


async def test_what_is_known_of_a_batch_outlasts_what_is_not(start: Start) -> None:
    async with start(double, broken, forever, retention={"jobs": 3}) as engine:
        batch = await submit_batch(engine, "broken", "double", "forever")

        async def has_ended() -> bool:
            return (await peek_batch(engine, batch)).pending == 1

        async def seen() -> tuple[State, int, int]:
            status = await peek_batch(engine, batch)
            told = status.pending, status.succeeded, status.failed, status.cancelled
            if status.expired < 3:
                assert told == (status.state == State.RUNNING, 1, 1, status.state != State.RUNNING)
            else:
                assert not any(told)
            jobs = await known(engine.list_batch(status))
            assert len(jobs) == 3 - status.expired
            return status.state, status.failed, status.expired

        await until(has_ended)
        assert await seen() == (State.RUNNING, 1, 0)
        await batch_finished(engine, await submit_batch(engine, *["double"] * 3))
        assert await seen() == (State.RUNNING, 1, 1)
        await known(engine.cancel_batch(batch))
        assert await seen() == (State.FAILED, 1, 1)
        await batch_finished(engine, await submit_batch(engine, *["broken"] * 3))
        assert await seen() == (State.FAILED, 1, 2)
        await known(engine.cancel_batch(await submit_batch(engine, *["forever"] * 3)))
        assert await seen() == (State.EXPIRED, 0, 3)


async def test_a_batch_counts_those_of_its_jobs_that_can_be_read_whoever_ends_meanwhile(start: Start) -> None:
    go = asyncio.Event()

    async def held(_: object) -> None:
        await go.wait()

    async with start(held, double, workers=7, queue={"size": 4}, retention={"jobs": 20}) as engine:
        # They came before the batch, and end after it.
        before = [await becomes(engine, await submit(engine, "held"), State.RUNNING) for _ in range(6)]
        batch = await batch_finished(engine, await submit_batch(engine, "double", "double"))
        jobs = [job_id for job_id, _ in await known(engine.list_batch(batch))]
        go.set()
        for job in before:
            await finished(engine, job)
        seen = set()
        for number in range(16):
            found = [await known(engine.peek(job_id)) for job_id in jobs]
            expired = [job.state for job in found if job].count(State.EXPIRED)
            assert (await peek_batch(engine, batch)).expired == expired
            seen.add(expired)
            await finished(engine, await submit(engine, "double", number))
        assert seen == {0, 1, 2}


async def test_a_batch_that_is_given_up_twice_at_once_is_given_up_once(engine: Engine) -> None:
    jobs = (await counts(engine)).jobs[State.CANCELLED]
    batch = await submit_batch(engine, *["forever"] * 10)
    first, second = engine.cancel_batch(batch), engine.cancel_batch(batch)
    for cancelled in await asyncio.gather(known(first), known(second)):
        assert (cancelled.status.pending, cancelled.status.cancelled) == (0, 10)
    assert (await counts(engine)).jobs[State.CANCELLED] == jobs + 10
    assert ((await counts(engine)).active, (await counts(engine)).waiting) == (0, 0)


async def test_a_batch_of_one_job_with_an_unknown_task_names_the_place_in_the_batch(engine: Engine) -> None:
    with pytest.raises(UnknownTaskError) as unknown:
        await submit_batch(engine, "nobody")
    assert [field for field, _ in unknown.value.faults] == ["[0].task"]


async def test_nothing_is_taken_of_a_batch_that_is_refused(start: Start) -> None:
    async with start(forever, workers=1, queue={"size": 5}) as engine:
        await submit_batch(engine, "forever", "forever")
        # One of them runs.
        await until(lambda: _runs(engine))
        before = (await counts(engine)).active, (await counts(engine)).waiting, (await counts(engine)).payload_bytes
        with pytest.raises(UnknownTaskError) as unknown:
            await submit_batch(engine, "forever", "nobody", "forever", "nothing")
        assert [field for field, _ in unknown.value.faults] == ["[1].task", "[3].task"]
        with pytest.raises(QueueFullError, match=r"room for 4 more jobs, not for 5\. Retry in"):
            await submit_batch(engine, *["forever"] * 5)
        with pytest.raises(QueueFullError, match="6 jobs are more than"):
            await submit_batch(engine, *["forever"] * 6)
        assert (
            (await counts(engine)).active,
            (await counts(engine)).waiting,
            (await counts(engine)).payload_bytes,
        ) == before
        await submit_batch(engine, *["forever"] * 4)
        draining = asyncio.create_task(engine.drain(0.0))
        await asyncio.sleep(0)
        with pytest.raises(DrainingError):
            await submit_batch(engine, "forever")
        await draining


async def _runs(engine: Engine) -> bool:
    return (await counts(engine)).jobs[State.RUNNING] == 1


async def test_members_of_a_submission_hold_for_their_job_alone(engine: Engine) -> None:
    wanted = [asked_for("double", 1, delay=60), asked_for("broken", "x", retries=1), asked_for("double", 2)]
    batch = (await known(engine.submit_batch(wanted))).status

    async def one_is_left() -> bool:
        return (await peek_batch(engine, batch)).pending == 1

    await until(one_is_left)
    jobs = [await known(engine.peek(job_id)) for job_id, _ in await known(engine.list_batch(batch))]
    assert [(job.state, job.attempt) for job in jobs if job] == [
        (State.SCHEDULED, 0),
        (State.FAILED, 2),
        (State.SUCCEEDED, 1),
    ]


async def test_the_last_batches_are_listed_newest_first(start: Start) -> None:
    async with start(double, broken, forever, retention={"jobs": 4, "seconds": 3600}) as engine:
        first = await submit_batch(engine, "double", "broken")
        await batch_finished(engine, first)
        second = await submit_batch(engine, "forever", "double", "double")
        found = await known(engine.recent_batches())
        assert [batch.id for batch in found] == [second.id, first.id]
        assert (found[0].pending > 0, found[1].succeeded, found[1].failed) == (True, 1, 1)
        # One of which no job is kept any more is left out.
        for _ in range(5):
            await finished(engine, await submit(engine, "double", 1))
            await finished(engine, await submit(engine, "broken", 1))
        await until_listed(engine, [second.id])


async def until_listed(engine: Engine, wanted: list[bytes]) -> None:
    async def listed() -> bool:
        return [batch.id for batch in await known(engine.recent_batches())] == wanted

    await until(listed)
