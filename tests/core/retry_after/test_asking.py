"""The answers about waiting jobs: how many come before, and when to ask again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from headway.core.job import State, Submission
from headway.core.job_filter import JobFilter
from headway.core.local.engine import LocalEngine
from headway.core.queue.queue import FAIR_EVERY
from headway.core.queue.ring import Ring
from headway.core.retry_after.estimate import CONNECTION, MARGIN_S, SUCCESSOR_S, UNKNOWN_S, Estimate
from headway.core.retry_after.pace import FAR_SPREAD_S
from headway.core.retry_after.runs import LONGER
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options, Registry
from hypothesis import given
from hypothesis import strategies as st

from tests.core.engines import engine_with, forever, known, now, over, peek, run, settings, submit, until

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
    await engine.start(print)
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


def test_a_batch_is_asked_for_later_than_each_of_its_jobs_would_be() -> None:
    async def test() -> None:
        async with engine_with(forever, workers=40) as engine:
            for number in range(200):
                engine.active.estimate.observe(0, 1.0 + number % 10, NOW + number)
            alone = told_s(engine, submit(engine, "forever"))
            batch = now(engine.submit_batch([Submission(task="forever")] * 30)).status
            # Of run times from 1 to 10 s the longest of thirty is waited for.
            assert alone < 9 < batch.retry_after_ms / 1000 < 12

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
                    # It comes, and is gone before anybody is ahead of anybody.
                    sequence = engine.board.open(State.QUEUED, engine.ids.tag, 0, 9, begun)
                    queue.push(sequence)
                    queue.remove(sequence)
                    engine.board.move(sequence, State.CANCELLED, begun)
                now = begun + second
                estimate.began(0, now)
                estimate.observe(0, 0.1, now)
                engine.board.ask_at[row] = 0.0
                told.append(engine.promises.retry_after_ms(row, engine.board.live[row], 0, now) / 1000)
            # They take all of the worker's time: each tenth of a second that is left to it is one
            # of 64.
            assert told[-1] > told[20] > told[5] > told[0]
            assert told[-1] == pytest.approx(min(0.1 * FAIR_EVERY + 0.1, 59 * LONGER + 0.2), rel=0.1)
            # Where nothing comes above it, as of late, it is expected as ever.
            for second in range(60, 120):
                queue.rate_above(0, begun + second)
            estimate.began(0, begun + 120)
            engine.board.ask_at[row] = 0.0
            assert engine.promises.retry_after_ms(row, engine.board.live[row], 0, begun + 120) < 300

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


def test_who_would_come_after_the_end_of_a_drain_is_told_to_come_to_the_successor() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            running, *waiting = [submit(engine, "forever") for _ in range(4)]
            await until(lambda: peek(engine, running).state == State.RUNNING)
            assert peek(engine, waiting[-1]).retry_after_ms <= 1100
            draining = asyncio.create_task(engine.drain(0.3))
            await asyncio.sleep(0)
            for job_id in (running, *waiting):
                assert (0.3 + SUCCESSOR_S - 0.1) * 1000 < peek(engine, job_id).retry_after_ms < 3000
            await draining
            engine.resume()
            # Of what was promised meanwhile nothing is taken back.
            assert peek(engine, submit(engine, "forever")).retry_after_ms <= 1100

    run(test)


def test_who_would_come_before_the_end_of_a_drain_may() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            running = submit(engine, "forever")
            await until(lambda: peek(engine, running).state == State.RUNNING)
            draining = asyncio.create_task(engine.drain(5.0))
            await asyncio.sleep(0)
            assert peek(engine, running).retry_after_ms < 1500
            draining.cancel()

    run(test)


def test_who_come_back_to_a_successor_come_slower_than_polls() -> None:
    async def test() -> None:
        polling = {"capacity": 1000, "share": 0.5}
        async with engine_with(forever, polling=polling) as engine:
            jobs = [submit(engine, "forever") for _ in range(300)]
            draining = asyncio.create_task(engine.drain(0.0))
            await asyncio.sleep(0)
            told = sorted(peek(engine, job_id).retry_after_ms for job_id in jobs)
            assert told[-1] - told[0] == pytest.approx(1000 * 300 / (500 / CONNECTION), rel=0.1)
            await draining

    run(test)


def test_the_estimate_grows_with_the_jobs_ahead() -> None:
    async def fifty_ms(_: object) -> None:
        await asyncio.sleep(0.05)

    async def test() -> None:
        async with engine_with(fifty_ms, workers=1) as engine:
            first = submit(engine, "fifty_ms")
            assert 950 <= peek(engine, first).retry_after_ms <= 1050
            await over(engine, first)
            jobs = [submit(engine, "fifty_ms") for _ in range(20)]
            hint = peek(engine, jobs[-1]).retry_after_ms
            assert 20 * 50 < hint < 40 * 50
            assert peek(engine, jobs[0]).retry_after_ms < hint / 4

    run(test)


def test_the_estimate_follows_what_a_job_reports() -> None:
    async def a_quarter(_: object, context: Context) -> None:
        await asyncio.sleep(0.1)
        context.progress(25)
        await asyncio.Event().wait()

    async def test() -> None:
        async with engine_with(a_quarter, workers=1) as engine:
            job_id = submit(engine, "a_quarter")
            await until(lambda: peek(engine, job_id).progress == 25)
            # Of 1 s that were told at first, 0.9 are left.
            assert 250 < peek(engine, job_id).retry_after_ms < 400

    run(test)


def test_a_job_that_can_begin_at_once_is_not_told_to_wait_for_others() -> None:
    async def tenth(_: object) -> None:
        await asyncio.sleep(0.1)

    async def test() -> None:
        async with engine_with(tenth, workers=1) as engine:
            await over(engine, submit(engine, "tenth"))
            told = [peek(engine, submit(engine, "tenth")).retry_after_ms for _ in range(3)]
            assert told[0] < 180 < told[1] < 290 < told[2]

    run(test)


def test_a_list_promises_nothing() -> None:
    async def test() -> None:
        async with engine_with(forever, polling={"capacity": 20, "share": 1.0}) as engine:
            jobs = [submit(engine, "forever") for _ in range(3)]
            before = peek(engine, jobs[0]).retry_after_ms
            for _ in range(100):
                page = await known(engine.find(JobFilter(), 0, 50))
                assert [status.retry_after_ms for status in page.jobs] == [0, 0, 0]
            assert peek(engine, jobs[0]).retry_after_ms < before + 200

    run(test)


def test_a_batch_is_asked_for_when_the_last_to_end_of_its_last_jobs_is_expected_to() -> None:
    async def reporting(payload: float, context: Context) -> None:
        await asyncio.sleep(0.1)
        context.progress(payload)
        await asyncio.Event().wait()

    async def test() -> None:
        async with engine_with(reporting, workers=3) as engine:
            payloads = [msgspec.Raw(str(percent).encode()) for percent in (5, 50, 10)]
            status = now(
                engine.submit_batch([Submission(task="reporting", payload=payload) for payload in payloads])
            ).status
            await asyncio.sleep(0.15)
            told = now(engine.peek_batch(status.id))
            assert told is not None
            assert 1700 < told.retry_after_ms < 2300

    run(test)


def test_who_asks_before_he_was_told_to_takes_no_second_promise() -> None:
    async def test() -> None:
        # One poll in a slot: what is promised is not free.
        async with engine_with(forever, workers=1, polling={"capacity": 20, "share": 1.0}) as engine:
            job_id = submit(engine, "forever")
            await until(lambda: peek(engine, job_id).state == State.RUNNING)
            told = peek(engine, job_id).retry_after_ms
            assert all(0 < peek(engine, job_id).retry_after_ms <= told for _ in range(1000))
            assert peek(engine, submit(engine, "forever")).retry_after_ms < told + 200

    run(test)
