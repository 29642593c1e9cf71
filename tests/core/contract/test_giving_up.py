"""DELETE and retry: jobs that are given up, results that are forgotten, failed jobs that are sent again."""

import asyncio

import pytest
from headway.core.errors import NotFailedError, PayloadGoneError, QueueFullError
from headway.core.interface import Cancel, Engine, Later
from headway.core.job import Reason, State
from headway.core.key import Key
from headway.core.tasks.registry import Options

from tests.core.contract.client import (
    are_at,
    becomes,
    cancel,
    counts,
    finished,
    has_come,
    peek,
    states,
    submit,
    text_of,
)
from tests.core.contract.conftest import Start
from tests.core.engines import broken, forever, known


async def test_a_running_job_is_interrupted(start: Start) -> None:
    interrupted = asyncio.Event()

    async def work(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.set()

    async with start(work, workers=1) as engine:
        job = await becomes(engine, await submit(engine, "work"), State.RUNNING)
        cancelled = await known(engine.cancel(job))
        assert (cancelled.how, cancelled.status.state) == (Cancel.ASKED, State.CANCELLED)
        await interrupted.wait()
        status = await peek(engine, job)
        assert (status.state, status.attempt) == (State.CANCELLED, 1)
        counted = await counts(engine)
        assert (counted.active, counted.jobs[State.CANCELLED], counted.workers.replacements) == (0, 1, 0)
        # Its worker is free.
        await becomes(engine, await submit(engine, "work"), State.RUNNING)


async def test_jobs_that_wait_are_dropped_and_never_run(start: Start) -> None:
    ran = []

    async def record(payload: str) -> None:
        ran.append(payload)

    async with start(forever, record, workers=1) as engine:
        blocker = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        jobs = [await submit(engine, "record", "queued"), await submit(engine, "record", "scheduled", delay=60)]
        last = await submit(engine, "record", "last")
        for job in jobs:
            cancelled = await known(engine.cancel(job))
            assert (cancelled.how, cancelled.status.state) == (Cancel.DROPPED, State.CANCELLED)
        assert (await peek(engine, last)).position == 0
        await cancel(engine, blocker)
        await finished(engine, last)
        assert await states(engine, jobs) == [State.CANCELLED] * 2
        assert (ran, (await counts(engine)).waiting) == (["last"], 0)


async def test_the_result_of_a_job_that_is_over_is_forgotten(engine: Engine) -> None:
    job = await finished(engine, await submit(engine, "double", 21))
    assert await text_of(engine, job) == "42"
    cancelled = await known(engine.cancel(job))
    assert (cancelled.how, cancelled.status.state) == (Cancel.FORGOTTEN, State.SUCCEEDED)
    assert await known(engine.result(cancelled.status)) is None
    assert (await peek(engine, job)).state == State.SUCCEEDED


async def test_that_a_job_returned_nothing_is_forgotten_too(start: Start) -> None:
    async def nothing(_: object) -> None:
        await asyncio.sleep(0)

    async with start(nothing) as engine:
        job = await finished(engine, await submit(engine, "nothing"))
        assert await text_of(engine, job) == "null"
        cancelled = await known(engine.cancel(job))
        assert cancelled.how == Cancel.FORGOTTEN
        assert await known(engine.result(cancelled.status)) is None


async def test_a_cancelled_job_cannot_be_cancelled_again(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    first = engine.cancel(job)
    # Before the first is known, perhaps, and after it.
    second = engine.cancel(await peek(engine, job))
    one, two = await asyncio.gather(known(first), known(second))
    three = await known(engine.cancel(two.status))
    assert [cancelled.how for cancelled in (one, two, three)] == [Cancel.ASKED, Cancel.NOTHING, Cancel.NOTHING]
    assert {cancelled.status.state for cancelled in (one, two, three)} == {State.CANCELLED}


async def test_an_attempt_that_ends_after_the_cancellation_has_no_say(start: Start) -> None:
    go = asyncio.Event()

    async def work(_: object) -> str:
        await go.wait()
        return "too late"

    async with start(work, workers=1) as engine:
        job = await becomes(engine, await submit(engine, "work"), State.RUNNING)
        soon = engine.cancel(job)
        await has_come(engine)
        # It ends while the cancellation is being committed, where there is a commit.
        go.set()
        cancelled = await known(soon)
        assert (cancelled.how, cancelled.status.state) == (Cancel.ASKED, State.CANCELLED)
        assert await known(engine.result(cancelled.status)) is None
        counted = await counts(engine)
        assert (counted.active, counted.jobs[State.CANCELLED], counted.jobs[State.SUCCEEDED]) == (0, 1, 0)
        assert (await finished(engine, await submit(engine, "work"))).state == State.SUCCEEDED


async def test_who_cancels_and_has_gone_has_cancelled(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    soon = engine.cancel(job)
    if isinstance(soon, Later):
        soon.when_known(lambda: None)
        soon.cancel()
    await becomes(engine, job, State.CANCELLED)


async def test_a_cancelled_job_leaves_its_place_to_the_next_at_once(start: Start) -> None:
    cleaning = asyncio.Event()

    async def slow_to_clean(_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await cleaning.wait()

    async with start((slow_to_clean, Options(max_concurrent=1)), workers=4) as engine:
        first, second = await submit(engine, "slow_to_clean"), await submit(engine, "slow_to_clean")
        await becomes(engine, first, State.RUNNING)
        await cancel(engine, first)
        await becomes(engine, second, State.RUNNING)
        # At once, and not when the first is given up.
        assert (await counts(engine)).workers.replacements == 0
        cleaning.set()


@pytest.mark.estimate
async def test_the_job_that_is_dropped_is_the_one_that_was_named_however_many_were_dropped_before(start: Start) -> None:
    async with start(forever, workers=1, queue={"size": 6}) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        kept = [await submit(engine, "forever") for _ in range(3)]
        for _ in range(30):
            kept.append(await submit(engine, "forever"))
            await cancel(engine, kept.pop(-2))
        await are_at(engine, kept, [0, 1, 2])
        await cancel(engine, kept[1])
        assert await states(engine, kept) == [State.QUEUED, State.CANCELLED, State.QUEUED]
        await are_at(engine, kept[2:], [1])


async def test_a_failed_job_can_be_sent_again_as_it_was(start: Start) -> None:
    payloads = []

    async def once(payload: str) -> None:
        payloads.append(payload)
        if len(payloads) == 1:
            raise ValueError(payload)

    async with start(once) as engine:
        old = await finished(engine, await submit(engine, "once", "the same", priority=7))
        again = await known(engine.retry(old))
        assert (again.replayed, again.status.task) == (False, "once")
        assert again.status.id != old.id
        status = await finished(engine, again.status)
        assert (status.state, status.attempt) == (State.SUCCEEDED, 1)
        assert payloads == ["the same"] * 2
        assert (await peek(engine, old)).state == State.FAILED
        with pytest.raises(NotFailedError):
            await known(engine.retry(status))
        await cancel(engine, old)
        with pytest.raises(PayloadGoneError):
            await known(engine.retry(old))


async def test_a_job_that_is_sent_again_has_its_priority_and_takes_room_as_before(start: Start) -> None:
    async with start(broken, forever, workers=1) as engine:
        old = await finished(engine, await submit(engine, "broken", "x" * 98, priority=7))
        blocker = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        others = [await submit(engine, "forever", priority=priority) for priority in (6, 8)]
        before = (await counts(engine)).payload_bytes
        again = (await known(engine.retry(old))).status
        assert [(await peek(engine, job)).position for job in (*others, again)] == [2, 0, 1]
        assert (await counts(engine)).payload_bytes == before + 100
        for job in (again, *others, blocker):
            await cancel(engine, job)
        assert (await counts(engine)).payload_bytes == 0


async def test_a_job_that_is_sent_again_has_all_its_time_from_then_on(start: Start) -> None:
    attempts = []

    async def first_fails(_: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("no")
        await asyncio.Event().wait()

    async with start(first_fails) as engine:
        old = await finished(engine, await submit(engine, "first_fails", deadline=0.4, retries=0))
        assert old.reason == Reason.ERROR
        await asyncio.sleep(0.2)
        status = await finished(engine, (await known(engine.retry(old))).status)
        assert (status.state, status.reason) == (State.FAILED, Reason.DEADLINE)
        assert 0.39 < status.ended - status.submitted < 2


async def test_a_retry_under_a_key_is_one_job_however_often_it_comes(engine: Engine) -> None:
    old, key = await finished(engine, await submit(engine, "broken", "no")), Key.of("retry", b"content")
    first, second = engine.retry(old, key), engine.retry(old, key)
    one, two = await asyncio.gather(known(first), known(second))
    assert one.status.id == two.status.id
    assert sorted([one.replayed, two.replayed]) == [False, True]
    three = await known(engine.retry(old, key))
    assert (three.status.id, three.replayed) == (one.status.id, True)


async def test_a_retry_needs_room_as_a_submission_does(start: Start) -> None:
    async with start(broken, forever, workers=1, queue={"size": 1}) as engine:
        old = await finished(engine, await submit(engine, "broken", "no"))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        waits = await submit(engine, "forever")
        with pytest.raises(QueueFullError):
            await known(engine.retry(old))
        await cancel(engine, waits)
        assert (await known(engine.retry(old))).status.state == State.QUEUED


async def test_a_cancelled_job_cannot_be_sent_again(engine: Engine) -> None:
    job = await cancel(engine, await becomes(engine, await submit(engine, "forever"), State.RUNNING))
    with pytest.raises(NotFailedError):
        await known(engine.retry(job))
