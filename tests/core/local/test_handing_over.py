"""Jobs that wait go over to the next process, whatever its settings, its tasks and its layout are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from headway.core.errors import QueueFullError
from headway.core.job import Reason, State
from headway.core.job_filter import JobFilter
from headway.core.local.deploy import Carried
from headway.core.local.engine import LocalEngine
from headway.core.order import Action
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry
from headway.core.tasks.retry import Retry

from tests.core.contract.client import batch_finished, becomes, counts, finished, peek, peek_batch, submit, submit_batch
from tests.core.engines import PATIENCE_S, double, engine_with, forever, known, settings


async def left_by(before: LocalEngine) -> Carried:
    """Return what an engine in memory leaves, whose clients are kept."""
    assert await before.drain(PATIENCE_S, keeps_clients=True) == 0
    await before.stop()
    file = BytesIO()
    rows = before.hand_over(file)
    assert rows is not None
    file.seek(0)
    return Carried(file, os.dup(rows))


@asynccontextmanager
async def next_engine(left: Carried, *functions: Callable[..., Any], **changed: Any) -> AsyncIterator[LocalEngine]:
    """Start an engine that goes on from ``left``."""
    registry = Registry()
    for function in functions:
        registry.add(function, Options())
    engine = LocalEngine(settings(**changed), registry, before=left)
    await engine.start(print)
    try:
        yield engine
    finally:
        await engine.stop()


async def test_more_jobs_than_a_shorter_queue_accepts_go_on_after_a_deploy() -> None:
    # More than the rows and the annex of the smaller board have.
    many = 3000
    async with engine_with(double, forever, workers=1, queue={"size": many}) as before:
        await before.drain(PATIENCE_S, keeps_clients=True)
        jobs = [await submit(before, "double", number) for number in range(many - 10)]
        jobs += [await submit(before, "double", number, delay=0.05) for number in range(10)]
        left = await left_by(before)
    async with next_engine(left, double, forever, workers=1, queue={"size": 2}, retention={"jobs": 5}) as after:
        with pytest.raises(QueueFullError):
            await submit(after, "double", 1)
        for job in jobs[-5:]:
            assert (await finished(after, job)).state == State.SUCCEEDED
        assert (await counts(after)).jobs[State.SUCCEEDED] == many


async def test_jobs_that_wait_in_rows_of_another_layout_are_gone() -> None:
    async with engine_with(double, workers=1) as before:
        job = await submit(before, "double", 1, delay=60)
        await before.drain(PATIENCE_S, keeps_clients=True)
        waits = await submit(before, "double", 1)
        left = await left_by(before)
    left.document.layout += 1
    async with next_engine(left, double, workers=1) as after:
        for one in (job, waits):
            assert (await peek(after, one)).state == State.EXPIRED
        counted = await counts(after)
        assert (counted.active, counted.waiting, counted.payload_bytes) == (0, 0, 0)
        assert [counted.jobs[state] for state in (State.SCHEDULED, State.QUEUED)] == [0, 0]
        assert (await finished(after, await submit(after, "double", 2))).state == State.SUCCEEDED
        assert await after.drain(PATIENCE_S) == 0


async def test_a_batch_tells_of_jobs_that_were_lost_with_their_task() -> None:
    async with engine_with(double, forever, workers=1, retention={"cancelled": {"jobs": 1}}) as before:
        await before.drain(PATIENCE_S, keeps_clients=True)
        batch = await submit_batch(before, "forever", "forever", "double")
        left = await left_by(before)
    async with next_engine(left, double, workers=1, retention={"cancelled": {"jobs": 1}}) as after:
        told = await peek_batch(after, batch)
        assert (told.cancelled, told.expired) == (2, 1)


async def test_an_order_that_came_while_no_job_was_begun_is_carried_out_after_a_deploy() -> None:
    async with engine_with(double, workers=1) as before:
        await before.drain(PATIENCE_S, keeps_clients=True)
        waits = await submit(before, "double", 1, delay=60)
        order = (await known(before.order(Action.CANCEL, JobFilter(task="double")))).status
        left = await left_by(before)
    async with next_engine(left, double, workers=1) as after:
        assert (await finished(after, order)).state == State.SUCCEEDED
        assert (await peek(after, waits)).state == State.CANCELLED


async def test_the_log_of_a_job_that_is_tried_again_goes_on_after_a_deploy() -> None:
    async def talks(_: object, context: Context) -> None:
        context.log("here")
        if context.attempt == 1:
            raise Retry(delay=0.5)

    async with engine_with(talks) as before:
        job = await becomes(before, await submit(before, "talks", retries=1), State.RETRYING)
        told = await known(before.log(job))
        assert told.text() == b"here\n"
        left = await left_by(before)
    async with next_engine(left, talks) as after:
        assert await known(after.log(job)) == told
        assert (await finished(after, job)).state == State.SUCCEEDED
        assert (await known(after.log(job))).text() == b"here\n--- attempt 2 ---\nhere\n"
        assert [past.number for past in await known(after.attempts(await peek(after, job)))] == [1, 2]


async def test_a_job_whose_deadline_came_in_a_deploy_does_not_begin() -> None:
    begun = list[object]()

    async def notes(payload: object) -> None:
        begun.append(payload)

    async with engine_with(notes) as before:
        await before.drain(PATIENCE_S, keeps_clients=True)
        late = await submit(before, "notes", 1, deadline=0.05)
        batch = await submit_batch(before, "notes")
        left = await left_by(before)
    await asyncio.sleep(0.06)
    async with next_engine(left, notes) as after:
        done = await finished(after, late)
        assert (done.state, done.reason, done.attempt) == (State.FAILED, Reason.DEADLINE, 0)
        assert (await batch_finished(after, batch)).succeeded == 1
        assert begun == [1]
        assert ((await counts(after)).active, (await counts(after)).payload_bytes) == (0, 0)
