"""An engine as a whole: its counts, its drain, its end, and what comes after it."""

import asyncio
import time
from io import BytesIO

import pytest
from headway.core.errors import DrainingError, MisdirectedError, QueueFullError
from headway.core.interface import Engine
from headway.core.job import Reason, State
from headway.core.key import Key

from tests.core.contract.client import (
    asked_for,
    attempts,
    batch_finished,
    becomes,
    cancel,
    counts,
    finished,
    is_ready,
    peek,
    submit,
    submit_batch,
    text_of,
)
from tests.core.contract.conftest import Start
from tests.core.engines import PATIENCE_S, at_last, broken, double, forever, is_gateway, known


async def test_what_it_counts(start: Start) -> None:
    async with start(double, broken, forever, workers=3, queue={"size": 7}) as engine:
        for task, payload in (("double", 1), ("double", 2), ("broken", "no")):
            await finished(engine, await submit(engine, task, payload))
        running = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        await submit(engine, "double", 4, delay=60)
        await cancel(engine, await becomes(engine, await submit(engine, "forever"), State.RUNNING))
        later = engine.wait(running, PATIENCE_S)
        later.when_known(lambda: None)
        counted = await counts(engine)
        assert [counted.jobs[state] for state in State if State.EMPTY < state < State.EXPIRED] == [1, 0, 1, 0, 2, 1, 1]
        assert (counted.active, counted.waiting, counted.queue_size, counted.waiting_clients) == (2, 1, 7, 1)
        # "null" and "4".
        assert (counted.payload_bytes, counted.load.oldest_s, counted.retries, counted.draining) == (5, 0.0, 0, False)
        assert [sum(times.buckets) for times in await attempts(engine)] == [5, 3]
        assert (counted.results_kept, counted.results_evicted) == (3, 0)
        assert counted.memory_bytes > 0
        if counted.store is None:
            assert 0 < counted.results_bytes < counted.results_max_bytes
            assert counted.rows > 0
        else:
            assert (counted.store.up, counted.store.nodes, counted.store.fenced) == (True, 1, 0)
        assert counted.workers.count == 3
        assert counted.processes is None
        later.cancel()
        assert (await counts(engine)).waiting_clients == 0


async def test_how_long_the_oldest_job_has_waited_is_counted(start: Start) -> None:
    async with start(forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        begun = time.monotonic()
        await submit(engine, "forever")
        await submit(engine, "forever", priority=9)
        await asyncio.sleep(0.01)
        assert 0.01 <= (await counts(engine)).load.oldest_s <= time.monotonic() - begun + 0.001


async def test_who_may_ask_again_is_told_when_there_is_room(start: Start) -> None:
    async with start(polling={"capacity": 100, "share": 1.0}) as engine:
        told = [engine.retry_after_s() for _ in range(300)]
        assert min(told) >= 1.0
        assert 3.5 < max(told) < 5.0
        assert engine.retry_after_s(20.0) >= 20.0


async def test_a_drain_refuses_new_jobs_and_waits_for_those_that_run(start: Start) -> None:
    go = asyncio.Event()

    async def work(_: object) -> None:
        await go.wait()

    async with start(work, double, broken) as engine:
        failed = await finished(engine, await submit(engine, "broken", "no"))
        jobs = [await becomes(engine, await submit(engine, "work"), State.RUNNING) for _ in range(2)]
        assert engine.not_ready is None
        draining = asyncio.create_task(engine.drain(PATIENCE_S))
        await asyncio.sleep(0)
        await is_ready(engine, False)
        assert engine.not_ready == "draining"
        assert (await counts(engine)).draining
        with pytest.raises(DrainingError) as refused:
            await submit(engine, "double", 1)
        assert refused.value.retry_after_s > 0
        with pytest.raises(DrainingError):
            await submit_batch(engine, "double")
        with pytest.raises(DrainingError):
            await known(engine.retry(failed))
        with pytest.raises(DrainingError):
            engine.check_room()
        # What is known can be read.
        assert (await peek(engine, jobs[0])).state == State.RUNNING
        await asyncio.sleep(0.02)
        assert not draining.done()
        go.set()
        assert await draining == 0
        assert [(await peek(engine, job)).state for job in jobs] == [State.SUCCEEDED] * 2


async def test_a_drain_releases_who_waits(start: Start) -> None:
    async with start(forever, workers=3) as engine:
        batch = await submit_batch(engine, "forever", "forever")
        job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        both = asyncio.gather(at_last(engine.wait(job, PATIENCE_S)), at_last(engine.wait_batch(batch, PATIENCE_S)))
        await asyncio.sleep(0.01)
        assert not both.done()
        begun = time.monotonic()
        draining = asyncio.create_task(engine.drain(PATIENCE_S))
        assert [status.state for status in await both] == [State.RUNNING] * 2
        # Nor is anybody kept who comes now.
        assert (await at_last(engine.wait(job, PATIENCE_S))).state == State.RUNNING
        assert (await at_last(engine.wait_batch(batch, PATIENCE_S))).state == State.RUNNING
        assert time.monotonic() - begun < 1
        # What is given up has not to be waited for.
        await known(engine.cancel_batch(batch))
        await cancel(engine, job)
        assert await draining == 0


async def test_a_drain_that_runs_out_of_time_tells_how_many_are_left(start: Start) -> None:
    async with start(forever, double) as engine:
        jobs = [await becomes(engine, await submit(engine, "forever"), State.RUNNING) for _ in range(2)]
        assert await engine.drain(0.02) == 2
        # And may come to nothing.
        engine.resume()
        await is_ready(engine, True)
        assert not (await counts(engine)).draining
        waits = await submit(engine, "double", 1)
        await cancel(engine, jobs[0])
        assert (await finished(engine, waits)).state == State.SUCCEEDED
        assert (await peek(engine, jobs[1])).state == State.RUNNING


async def test_what_is_known_can_be_read_when_it_has_stopped(start: Start) -> None:
    async with start(double, forever) as engine:
        job = await finished(engine, await submit(engine, "double", 4))
        batch = await batch_finished(engine, await submit_batch(engine, "double"))
        interrupted = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        await engine.stop()
        assert (await peek(engine, job)).state == State.SUCCEEDED
        assert await text_of(engine, job) == "8"
        assert (await known(engine.peek_batch(batch.id))) == batch
        # A store has given it back to the other nodes.
        assert (await peek(engine, interrupted)).state in (State.RUNNING, State.QUEUED)


async def test_it_hands_over_what_only_its_process_has(start: Start) -> None:
    async with start(double) as engine:
        await finished(engine, await submit(engine, "double", 4))
        await engine.stop()
        left = BytesIO()
        rows = engine.hand_over(left)
        # All else is on the disk, in the store, or in the engine of the gateway.
        hands_over = engine.durability == "memory" and not is_gateway(engine)
        assert (rows is not None, left.getvalue() != b"") == (hands_over, hands_over)


async def test_a_job_that_never_ran_teaches_nothing_of_how_long_its_task_takes(start: Start) -> None:
    async with start(double) as engine:
        job = await finished(engine, await submit(engine, "double", 1, delay=60, deadline=0.05))
        assert (job.reason, job.started) == (Reason.DEADLINE, 0.0)
    async with start(double) as engine:
        assert (await submit(engine, "double", 1)).retry_after_ms <= 2000


async def test_more_jobs_than_a_shorter_queue_accepts_go_on_after_a_restart(start: Start) -> None:
    async with start(forever, double, workers=1, queue={"size": 30}) as engine:
        first = await becomes(engine, await submit(engine, "forever", priority=9), State.RUNNING)
        jobs = [await submit(engine, "double", number) for number in range(30)]
    async with start(forever, double, workers=1, queue={"size": 2}) as engine:
        if engine.durability == "memory":
            return
        with pytest.raises(QueueFullError):
            await submit(engine, "double", 1)
        await cancel(engine, await becomes(engine, first, State.RUNNING))
        for number, job in enumerate(jobs):
            assert await text_of(engine, await finished(engine, job)) == str(2 * number)


async def test_what_is_kept_outlives_the_engine_where_it_is_durable(start: Start) -> None:
    key = Key.of("kept", b"content")

    async def slow(payload: int) -> int:
        await asyncio.sleep(0 if begun else 60)
        return payload

    begun: list[bool] = []
    async with start(double, broken, slow) as engine:
        over = await finished(engine, await submit(engine, "double", 4, key))
        failed = await finished(engine, await submit(engine, "broken", "no"))
        batch = await batch_finished(engine, await submit_batch(engine, "broken", "double"))
        interrupted = await becomes(engine, await submit(engine, "slow", 3, retries=0), State.RUNNING)
        waits = await submit(engine, "double", 5, delay=60)
    # However often it is interrupted by an orderly end, that costs no attempt, and it is not taken for the
    # death of the engine.
    for _ in range(4):
        async with start(double, broken, slow) as engine:
            if engine.durability != "memory":
                await becomes(engine, interrupted, State.RUNNING)
    begun.append(True)
    async with start(double, broken, slow) as engine:
        if engine.durability == "memory":
            await _knows_nothing_of(engine, over.id, batch.id)
            return
        for before in (over, failed):
            status = await peek(engine, before)
            assert (status.id, status.state, status.reason) == (before.id, before.state, before.reason)
        assert await text_of(engine, over) == "8"
        assert await text_of(engine, failed) == "ValueError: no"
        assert await known(engine.peek_batch(batch.id)) == batch
        again = await known(engine.submit(asked_for("double", 4), key))
        assert (again.status.id, again.replayed) == (over.id, True)
        assert (await finished(engine, (await known(engine.retry(failed))).status)).state == State.FAILED
        status = await finished(engine, interrupted)
        assert (status.state, status.attempt, await text_of(engine, status)) == (State.SUCCEEDED, 1, "3")
        assert (await peek(engine, waits)).state == State.SCHEDULED
        # No number is given twice.
        assert (await submit(engine, "double", 1)).sequence > waits.sequence


async def _knows_nothing_of(engine: Engine, job_id: bytes, batch_id: bytes) -> None:
    with pytest.raises(MisdirectedError):
        await known(engine.peek(job_id))
    with pytest.raises(MisdirectedError):
        await known(engine.peek_batch(batch_id))
