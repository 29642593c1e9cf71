"""What the engine in one process does, and not every engine: see tests/core/contract for the rest."""

import asyncio
import linecache
import threading
import time

import pytest
from headway.core.errors import DrainingError
from headway.core.job import State
from headway.core.work.watchdog import FRAMES

from tests.core.engines import (
    PATIENCE_S,
    UNSTOPPABLE_S,
    broken,
    double,
    engine_with,
    over,
    peek,
    run,
    submit,
    until,
)


def test_a_drain_in_memory_waits_for_all_that_was_taken() -> None:
    async def test() -> None:
        async with engine_with(double, broken) as engine:
            jobs = [submit(engine, "double", 1), submit(engine, "double", 1, delay=0.05)]
            jobs.append(submit(engine, "broken", "again", retries=1))
            assert await engine.drain(PATIENCE_S) == 0
            states = [peek(engine, job_id).state for job_id in jobs]
            assert states == [State.SUCCEEDED, State.SUCCEEDED, State.FAILED]
            with pytest.raises(DrainingError):
                submit(engine, "double", 1)
            assert engine.not_ready == "draining"

    run(test)


def test_a_drain_begins_what_waits_though_a_deploy_had_begun() -> None:
    async def test() -> None:
        async with engine_with(double) as engine:
            assert await engine.drain(PATIENCE_S, keeps_clients=True) == 0
            job = submit(engine, "double", 1)
            assert await engine.drain(PATIENCE_S) == 0
            assert peek(engine, job).state == State.SUCCEEDED

    run(test)


def test_a_drain_begins_what_waits_for_a_thread_though_the_server_is_not_ready() -> None:
    release = threading.Event()

    def stuck(_: object) -> None:
        release.wait(UNSTOPPABLE_S)

    def work(_: object) -> int:
        return 1

    async def test() -> None:
        async with engine_with(stuck, work, workers=1, limits={"lost_threads": 0}) as engine:
            await over(engine, submit(engine, "stuck", timeout=0.02))
            assert engine.not_ready is not None
            job = submit(engine, "work")
            assert await engine.drain(5) == 0
            assert peek(engine, job).state == State.SUCCEEDED
            release.set()

    run(test)


def test_a_task_that_blocks_the_loop_is_named_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def blocking(_: object) -> None:
        time.sleep(1.0)  # noqa: ASYNC251 — what the watchdog is for

    async def test() -> None:
        async with engine_with(blocking, watchdog={"stall": 0.1}) as engine:
            await over(engine, submit(engine, "blocking"))
            await until(lambda: engine.counts().loop_lag.sum > 0.5)

    run(test)
    stalls = [record.getMessage() for record in caplog.records if "event loop blocked" in record.getMessage()]
    assert len(stalls) == 1
    assert "by task blocking" in stalls[0]
    assert "time.sleep(1.0)" in stalls[0]


def test_the_stack_of_a_blocked_loop_leaves_no_sources_but_those_it_shows() -> None:
    """Python keeps the lines of each file that it has formatted a frame of."""

    def deep(frames: int) -> None:
        if frames:
            deep(frames - 1)
        else:
            time.sleep(0.5)

    async def blocking(_: object) -> None:
        deep(FRAMES)

    async def test() -> None:
        async with engine_with(blocking, watchdog={"stall": 0.1}) as engine:
            await over(engine, submit(engine, "blocking"))
            await until(lambda: engine.watchdog.stalls == 1)

    # Errors that a test before this one has raised.
    linecache.clearcache()
    run(test)
    assert set(linecache.cache) == {__file__}


async def waiting(_: object) -> None:
    await asyncio.sleep(PATIENCE_S)


def test_jobs_that_come_at_once_all_begin_in_a_few_turns_of_the_loop() -> None:
    async def main() -> None:
        async with engine_with(waiting, workers=8) as engine:
            await asyncio.sleep(0)
            for _ in range(20):
                submit(engine, "waiting")
            for _ in range(4):
                await asyncio.sleep(0)
            assert engine.counts().jobs[State.RUNNING] == 8

    asyncio.run(main())
