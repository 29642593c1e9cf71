"""The answers about waiting jobs: how many come before, and when to ask again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from headway.core.job import State, Submission
from headway.core.local.engine import LocalEngine
from headway.core.queue.queue import FAIR_EVERY
from headway.core.queue.ring import Ring
from headway.core.retry_after.estimate import MARGIN_S, UNKNOWN_S, Estimate
from headway.core.retry_after.pace import FAR_SPREAD_S
from headway.core.retry_after.runs import LONGER
from headway.core.tasks.registry import Options, Registry
from hypothesis import given
from hypothesis import strategies as st

from tests.core.engines import engine_with, forever, now, over, peek, run, settings, submit, until

PLENTY = 1e9
NOW = 1000.0


async def plain(_: object) -> None:
    await asyncio.Event().wait()


async def limited(_: object) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def engine_of(most: int = 1, **changed: Any) -> AsyncIterator[LocalEngine]:
    """An engine with a task ``plain`` and one ``limited`` of which ``most`` may run at once."""
    registry = Registry()
    registry.add(plain, Options())
    registry.add(limited, Options(max_concurrent=most))
    engine = LocalEngine(settings(**changed), registry)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def told_s(engine: LocalEngine, job_id: bytes) -> float:
    return peek(engine, job_id).retry_after_ms / 1000


def test_jobs_of_all_tasks_that_are_taken_before_are_counted() -> None:
    async def test() -> None:
        async with engine_of(workers=1) as engine:
            running = submit(engine, "plain")
            await until(lambda: peek(engine, running).state == State.RUNNING)
            tasks = ["plain", "limited"] * 4
            jobs = [submit(engine, task, priority=5) for task in tasks]
            assert [peek(engine, job).position for job in jobs] == list(range(8))
            for task in ("plain", "limited", "limited"):
                submit(engine, task, priority=6)
                submit(engine, task, priority=4)
            assert [peek(engine, job).position for job in jobs] == list(range(3, 11))
            now(engine.cancel(peek(engine, jobs[0])))
            now(engine.cancel(peek(engine, jobs[3])))
            rest = [job for job in jobs if job not in (jobs[0], jobs[3])]
            assert [peek(engine, job).position for job in rest] == list(range(3, 9))
            later = submit(engine, "limited", priority=5, delay=1000)
            assert peek(engine, later).position == 9

    run(test)


def test_jobs_of_a_task_at_its_limit_are_counted_and_not_waited_for() -> None:
    async def test() -> None:
        async with engine_of(workers=2) as engine:
            for _ in range(40):
                engine.active.estimate.observe(0, 1.0, time.monotonic())
                engine.active.estimate.observe(1, 60.0, time.monotonic())
            running = [submit(engine, "limited"), submit(engine, "plain")]
            await until(lambda: all(peek(engine, job).state == State.RUNNING for job in running))
            held = [submit(engine, "limited", priority=9) for _ in range(10)]
            job = submit(engine, "plain")
            assert peek(engine, job).position == 10
            # The one worker that takes turns is free in a second, and the job takes another.
            assert 1.9 < told_s(engine, job) < 3
            assert told_s(engine, held[-1]) > 600 - 60

    run(test)


@given(st.lists(st.integers(1, 200), max_size=60, unique=True), st.data())
def test_the_place_among_another_lines_jobs_whatever_was_taken_out(entries: list[int], data: st.DataObject) -> None:
    ring, tickets = Ring(100), {}
    for entry in sorted(entries):
        tickets[entry] = ring.push(entry)
    left = set(entries)
    for entry in data.draw(st.lists(st.sampled_from(sorted(entries)), unique=True)) if entries else []:
        ring.remove(tickets[entry])
        left.discard(entry)
    for _ in range(data.draw(st.integers(0, len(left)))):
        left.discard(ring.pop())
    for sequence in range(0, 202, 7):
        assert ring.before(sequence) == sum(entry < sequence for entry in left)


def test_a_line_is_expected_to_go_as_its_own_tasks_do() -> None:
    made, now = Estimate(32, 2, PLENTY), NOW
    for number in range(2000):
        now += 0.05
        made.observe(0, 0.01, now)
        if number % 200 == 0:
            made.observe(1, 60.0, now)
    assert made.for_queued(5, 1, 1.0, 1, now) == pytest.approx(360, rel=0.05)
    assert made.for_queued(3200, 32, 1.0, 0, now) == pytest.approx(1.0, rel=0.1)
    # Other lines take turns on the same workers.
    assert made.for_queued(1, 32, 1.0, 0, now, others=7.0) == pytest.approx(7.03, rel=0.01)


def test_a_line_that_stands_still_is_asked_for_ever_more_rarely_whatever_others_do() -> None:
    made = Estimate(4, 2, PLENTY)
    for task in (0, 1):
        made.observe(task, 1.0, NOW)
    for second in range(100):
        made.observe(0, 1.0, NOW + second)
    assert made.for_queued(1, 1, 100.0, 1, NOW + 100) > 50
    assert made.for_queued(1, 4, 100.0, 0, NOW + 100) < 2


@pytest.mark.parametrize(
    ("members", "at_most"),
    [({"delay": 86_400, "deadline": 60}, 60), ({"deadline": 0.5}, 0.5), ({"timeout": 0.4}, 0.4)],
)
def test_nobody_is_told_to_come_after_the_end_of_the_time_that_a_job_has(members: Any, at_most: float) -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            for _ in range(30):
                engine.active.estimate.observe(0, 50.0, time.monotonic())
            job = submit(engine, "forever", **members)
            if "delay" not in members:
                await until(lambda: peek(engine, job).state == State.RUNNING)
            assert at_most - 0.3 < told_s(engine, job) <= at_most + 2 * MARGIN_S

    run(test)


def test_a_batch_is_asked_for_at_its_deadline() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            for _ in range(30):
                engine.active.estimate.observe(0, 50.0, time.monotonic())
            body = [{"task": "forever", "deadline": 30.0}, {"task": "forever", "deadline": 40.0}]
            batch = now(engine.submit_batch(msgspec.convert(body, list[Submission]))).status
            assert 39 < batch.retry_after_ms / 1000 <= 40 + 2 * MARGIN_S

    run(test)


def test_of_far_off_jobs_the_clients_are_spread_over_less_than_a_minute() -> None:
    async def test() -> None:
        month = 30 * 86_400
        async with engine_with(forever) as engine:
            told = sorted(told_s(engine, submit(engine, "forever", delay=month)) for _ in range(50))
            assert month < told[0] < told[-1] < month + UNKNOWN_S + FAR_SPREAD_S + 1 <= month + 60
            assert told[-1] - told[0] > FAR_SPREAD_S / 2

    run(test)


def test_the_lowest_priority_is_not_forgotten_under_constant_load() -> None:
    async def test() -> None:
        async with engine_with(plain, workers=1) as engine:
            queue, board = engine.active.queue, engine.board
            blocker = submit(engine, "plain")
            await until(lambda: peek(engine, blocker).state == State.RUNNING)
            low = [submit(engine, "plain", priority=0) for _ in range(3)]
            claimed: list[int] = []
            while len(claimed) < 4 * FAIR_EVERY:
                submit(engine, "plain", priority=9)
                submit(engine, "plain", priority=5)
                claimed.append(board.priority[board.at(queue.claim())])
                queue.release(0)
            assert claimed.count(0) == len(low)
            # In between it is the highest that is taken, always.
            assert claimed.count(9) == len(claimed) - len(low) - claimed.count(5)
            assert claimed.count(5) <= 1

    run(test)


def test_while_higher_priorities_keep_coming_a_low_one_is_told_ever_longer_times() -> None:
    async def test() -> None:
        async with engine_with(plain, workers=1) as engine:
            estimate, queue = engine.active.estimate, engine.active.queue
            # It would hold the one that runs against the others.
            estimate.first = None
            for _ in range(100):
                estimate.observe(0, 0.1, time.monotonic())
            blocker = submit(engine, "plain")
            await until(lambda: peek(engine, blocker).state == State.RUNNING)
            low = submit(engine, "plain", priority=0)
            row, begun = engine.board.at(peek(engine, low).sequence), engine.board.submitted[2]
            told = []
            for second in range(1, 60):
                for _ in range(20):
                    queue._came[9] += 1
                now = begun + second
                estimate.began(0, now)
                estimate.observe(0, 0.1, now)
                engine.board.ask_at[row] = 0.0
                told.append(engine.reading.retry_after_ms(row, engine.board.live[row], 0, now) / 1000)
            # They take all of the worker's time: each tenth of a second that is left to it is one
            # of 64.
            assert told[-1] > told[20] > told[5] > told[0]
            assert told[-1] == pytest.approx(min(0.1 * FAIR_EVERY + 0.1, 59 * LONGER + 0.2), rel=0.1)
            # Where nothing comes above it, as of late, it is expected as ever.
            for second in range(60, 120):
                queue.rate_above(0, begun + second)
            estimate.began(0, begun + 120)
            engine.board.ask_at[row] = 0.0
            assert engine.reading.retry_after_ms(row, engine.board.live[row], 0, begun + 120) < 300

    run(test)


def test_a_poll_is_aimed_anew_when_a_job_begins_fails_or_becomes_ready() -> None:
    fail, begin = asyncio.Event(), asyncio.Event()

    async def first(_: object) -> None:
        await begin.wait()

    async def slow(_: object) -> None:
        await fail.wait()
        raise ValueError

    async def test() -> None:
        jobs = {"retries": 1, "backoff": 0.6, "backoff_max": 0.6}
        async with engine_with(first, slow, jobs=jobs, workers=1) as engine:
            for _ in range(20):
                engine.active.estimate.observe(1, 20.0, time.monotonic())
                engine.active.estimate.observe(0, 1000.0, time.monotonic())
            ahead, job = submit(engine, "first"), submit(engine, "slow")
            await until(lambda: peek(engine, ahead).state == State.RUNNING)
            assert told_s(engine, job) > 100
            begin.set()
            await until(lambda: peek(engine, job).state == State.RUNNING)
            assert 10 < told_s(engine, job) < 25
            fail.set()
            await until(lambda: peek(engine, job).state == State.RETRYING)
            # Until the next attempt, and its run time: not the rest of the time before.
            assert 20 <= told_s(engine, job) < 22
            assert (await over(engine, job)).state == State.FAILED

    run(test)
