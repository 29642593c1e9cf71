"""After a crash: what was finished is told as before, and all else is lost and says so."""

from __future__ import annotations

import asyncio
import os

from headway.core.job import Reason, State
from headway.core.local.engine import LocalEngine
from headway.core.local.salvage import remains_of, salvaged

from tests.core.contract.client import batch_finished, becomes, cancel, finished, peek, peek_batch, submit, submit_batch
from tests.core.engines import broken, double, engine_with, forever, known


def next_engine(before: LocalEngine) -> LocalEngine:
    """Return an engine of the rows of one that has crashed."""
    left = remains_of(before)
    kept = os.pread(left, os.fstat(left).st_size, 0)
    os.close(left)
    return LocalEngine(before.config, before.registry, before=salvaged(kept, os.dup(before.board.fd)))


async def test_what_was_finished_is_told_and_all_else_is_lost() -> None:
    async with engine_with(double, broken, forever) as engine:
        succeeded = await finished(engine, await submit(engine, "double", 1))
        failed = await finished(engine, await submit(engine, "broken", 1))
        cancelled = await submit(engine, "double", 1, delay=60)
        await cancel(engine, cancelled)
        running = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        delayed = await submit(engine, "double", 1, delay=60)
        after = next_engine(engine)
        assert [(await peek(after, job)).state for job in (succeeded, failed, cancelled)] == [
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
        ]
        assert (await peek(after, cancelled)).reason == Reason.NONE
        for job in (running, delayed):
            lost = await peek(after, job)
            assert (lost.state, lost.reason) == (State.CANCELLED, Reason.LOST)
            assert lost.kept_until > lost.ended > 0
        # Its value was in memory, and it is not null.
        assert await known(after.result(succeeded)) is None
        assert after.board.count[State.RUNNING] == after.board.count[State.SCHEDULED] == 0
        await after.start(print)
        try:
            new = await finished(after, await submit(after, "double", 2))
            assert new.sequence == delayed.sequence + 1
            assert (await known(after.counts())).jobs[State.SUCCEEDED] == 2
        finally:
            await after.stop()


async def test_a_batch_is_told_while_all_its_jobs_can_be_read_and_is_gone_then() -> None:
    async with engine_with(double, broken, forever, retention={"jobs": 3}) as engine:
        batch = await batch_finished(engine, await submit_batch(engine, "double", "broken", "double"))
        after = next_engine(engine)
        told = await peek_batch(after, batch)
        assert (told.succeeded, told.failed, told.expired) == (2, 1, 0)
        await after.start(print)
        try:
            for number in range(3):
                await finished(after, await submit(after, "double", number))
            # Nobody knows how those ended that are not kept any more.
            assert (await peek_batch(after, batch)).state == State.EXPIRED
        finally:
            await after.stop()


async def test_jobs_in_the_annex_are_found() -> None:
    """The ring came round while they were needed."""
    async with engine_with(double, forever, retention={"jobs": 2}, queue={"size": 4}) as engine:
        long = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        for number in range(engine.board.rows + 10):
            await finished(engine, await submit(engine, "double", number))
            if number % 200 == 0:
                await asyncio.sleep(0)
        assert engine.board.row(long.sequence) >= engine.board.rows
        after = next_engine(engine)
        assert (await peek(after, long)).reason == Reason.LOST
