"""What a client does with an engine, seen by core/interface.py alone. A value may be known at once, or later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from headway.core.errors import QueueFullError
from headway.core.interface import Engine
from headway.core.job import ACTIVE, State, Submission
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.stats import Counts, Histogram
from headway.core.status import BatchStatus, Status

from tests.core.engines import PATIENCE_S, at_last, growing_pauses, is_gateway, known


def asked_for(task: str, payload: object = None, **members: Any) -> Submission:
    """Return a submission."""
    return Submission(task=task, payload=msgspec.Raw(msgspec.json.encode(payload)), **members)


async def submit(engine: Engine, task: str, payload: object = None, key: Key | None = None, **members: Any) -> Status:
    """Submit a job that has not come before."""
    submitted = await known(engine.submit(asked_for(task, payload, **members), key))
    assert not submitted.replayed
    return submitted.status


async def submit_batch(engine: Engine, *tasks: str, key: Key | None = None) -> BatchStatus:
    """Submit a batch that has not come before, one job with the payload 1 for each of ``tasks``."""
    submitted = await known(engine.submit_batch([asked_for(task, 1) for task in tasks], key))
    assert not submitted.replayed
    return submitted.status


async def peek(engine: Engine, job: Status) -> Status:
    """Return what is known of a job that was issued."""
    status = await known(engine.peek(job.id))
    assert status is not None
    return status


async def peek_batch(engine: Engine, batch: BatchStatus) -> BatchStatus:
    """Return what is known of a batch that was issued."""
    status = await known(engine.peek_batch(batch.id))
    assert status is not None
    return status


async def finished(engine: Engine, job: Status) -> Status:
    """Wait for the end of a job."""
    async with asyncio.timeout(PATIENCE_S):
        status = await peek(engine, job)
        while status.state in ACTIVE:
            status = await at_last(engine.wait(status, PATIENCE_S))
    return status


async def batch_finished(engine: Engine, batch: BatchStatus) -> BatchStatus:
    """Wait for the end of all jobs of a batch."""
    async with asyncio.timeout(PATIENCE_S):
        status = await peek_batch(engine, batch)
        while status.pending:
            status = await at_last(engine.wait_batch(status, PATIENCE_S))
    return status


async def becomes(engine: Engine, job: Status, state: State) -> Status:
    """Look at a job until it is in ``state``."""
    status = await peek(engine, job)
    async with asyncio.timeout(PATIENCE_S):
        while status.state != state:
            await asyncio.sleep(0.001)
            status = await peek(engine, job)
    return status


async def are_at(engine: Engine, jobs: Sequence[Status], positions: Sequence[int]) -> None:
    """See that jobs are at these positions: at once, or soon where positions are estimates."""

    async def found() -> list[int]:
        return [(await peek(engine, job)).position for job in jobs]

    if not goes_by_counts(engine):
        assert await found() == [*positions]

    async def are() -> bool:
        return await found() == [*positions]

    await until(are)


async def has_room(engine: Engine, count: int, payload_bytes: int = 0) -> None:
    """See that there is room: at once, or soon where a check goes by the last counts."""

    async def found() -> bool:
        try:
            engine.check_room(count, payload_bytes)
        except QueueFullError:
            return False
        return True

    await (until(found) if goes_by_counts(engine) else _holds(found))


async def has_no_room(engine: Engine, count: int, payload_bytes: int = 0) -> None:
    """See that there is none, as ``has_room`` does."""

    async def found() -> bool:
        with suppress(QueueFullError):
            engine.check_room(count, payload_bytes)
            return False
        return True

    await (until(found) if goes_by_counts(engine) else _holds(found))


async def _holds(condition: Callable[[], Awaitable[object]]) -> None:
    assert await condition()


async def has_come(engine: Engine) -> None:
    """Wait until a call that was just made has come to an engine in another process."""
    if is_gateway(engine):
        await known(engine.peek_key("none"))


async def is_ready(engine: Engine, ready: bool) -> None:
    """See that new jobs are wanted, or not: at once, or soon where a check goes by the last counts."""

    async def found() -> bool:
        return (engine.not_ready is None) == ready

    await (until(found) if goes_by_counts(engine) else _holds(found))


def goes_by_counts(engine: Engine) -> bool:
    """Whether what is said of the queue as a whole is an estimate."""
    return engine.polled is None or is_gateway(engine)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Look until ``condition`` holds."""
    async with asyncio.timeout(PATIENCE_S):
        pauses = growing_pauses()
        while not await condition():  # noqa: ASYNC110 — as a client does
            await asyncio.sleep(next(pauses))


async def text_of(engine: Engine, job: Status) -> str:
    """Return the result of a job, or its error."""
    result = await known(engine.result(job))
    assert result is not None
    return result.body.decode()


async def counts(engine: Engine) -> Counts:
    """Return the counts of an engine."""
    return await known(engine.counts())


async def attempts(engine: Engine) -> tuple[Histogram, Histogram]:
    """Return how long jobs of all tasks waited for their attempts, and how long these ran."""
    tasks = await known(engine.tasks())
    return Histogram.together(task.wait for task in tasks), Histogram.together(task.run for task in tasks)


async def states(engine: Engine, jobs: Sequence[Status]) -> list[int]:
    """Return the states of ``jobs``."""
    return [(await peek(engine, job)).state for job in jobs]


async def cancel(engine: Engine, job: Status) -> Status:
    """Give a job up, and return what is known of it then."""
    return (await known(engine.cancel(await peek(engine, job)))).status


async def jobs_in(engine: Engine, state: State, limit: int = 50) -> list[Status]:
    """Return all jobs in ``state``, newest first, a page after the other."""
    return await jobs_of(engine, JobFilter(frozenset({state})), limit)


async def jobs_of(engine: Engine, wanted: JobFilter, limit: int = 50) -> list[Status]:
    """Return all jobs that fit ``wanted``, newest first, a page after the other."""
    found: list[Status] = []
    page = await known(engine.find(wanted, 0, limit))
    while True:
        assert len(page.jobs) <= limit
        found += page.jobs
        if page.after is None:
            return found
        page = await known(engine.find(wanted, page.after, limit))


async def clear(engine: Engine) -> None:
    """Give up all that is active."""
    for state in ACTIVE:
        for job in await jobs_in(engine, state):
            await cancel(engine, job)
