"""What becomes of a job: its attempts, its result, its place in the order, and its time."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from headway.core.interface import Engine
from headway.core.job import Reason, State
from headway.core.status import Status
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Options
from headway.core.tasks.retry import Retry

from tests.core.contract.client import (
    attempts,
    becomes,
    cancel,
    counts,
    finished,
    is_ready,
    peek,
    states,
    submit,
    text_of,
    until,
)
from tests.core.contract.conftest import Start, Tasks
from tests.core.engines import UNSTOPPABLE_S, double, forever, known, triple


async def nothing(_: object) -> None:
    await asyncio.sleep(0)


def raises(error: BaseException) -> Callable[[object], Any]:
    async def raising(_: object) -> None:
        raise error

    return raising


def raises_in_thread(error: BaseException) -> Callable[[object], Any]:
    def raising(_: object) -> None:
        raise error

    return raising


ERRORS = [SystemExit(3), KeyboardInterrupt(), BaseException("odd"), StopIteration(), asyncio.CancelledError()]
RAISING = {
    f"{make.__name__} {type(error).__name__}": make(error) for make in (raises, raises_in_thread) for error in ERRORS
}
CLEANED: list[bool] = []


async def slow(_: object) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        CLEANED.append(True)


async def reporting(_: object, context: Context) -> None:
    context.progress(41.9)
    await asyncio.Event().wait()


def reporting_thread(_: object, context: Context) -> None:
    context.progress(42)
    while not context.cancelled:
        time.sleep(0.001)


async def which(_: object, context: Context) -> list[object]:
    if context.attempt < 2:
        raise ValueError
    return [context.id, context.attempt]


async def patient(seconds: float, context: Context) -> int:
    if context.attempt < 3:
        raise Retry(delay=seconds)
    return context.attempt


async def picky(payload: str) -> None:
    raise {"again": OSError, "never": ValueError}[payload]("no")


async def blocks(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 — that is what it is for


TASKS: Tasks = (
    triple,
    nothing,
    slow,
    reporting,
    reporting_thread,
    which,
    patient,
    (picky, Options(retry_on=OSError, retries=1)),
    blocks,
    (forever, Options(name="alone", max_concurrent=1)),
    *((function, Options(name=name)) for name, function in RAISING.items()),
)


@pytest.mark.parametrize(("task", "expected"), [("double", "14"), ("triple", "21"), ("nothing", "null")])
async def test_a_job_runs_and_its_result_is_kept(engine: Engine, task: str, expected: str) -> None:
    job = await submit(engine, task, 7)
    assert job.state in (State.QUEUED, State.RUNNING, State.SUCCEEDED)
    assert job.task == task
    status = await finished(engine, job)
    assert (status.state, status.attempt, status.id) == (State.SUCCEEDED, 1, job.id)
    assert status.submitted <= status.started <= status.ended
    assert status.retry_after_ms == 0
    assert await text_of(engine, status) == expected


async def test_a_failed_job_says_why_after_all_its_attempts(engine: Engine) -> None:
    retries = (await counts(engine)).retries
    status = await finished(engine, await submit(engine, "broken", "no such luck", retries=2))
    assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.ERROR, 3)
    assert await text_of(engine, status) == "ValueError: no such luck"
    assert (await counts(engine)).retries == retries + 2


async def test_a_job_that_did_not_finish_has_no_result(engine: Engine) -> None:
    job = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    assert await known(engine.result(await cancel(engine, job))) is None


@pytest.mark.parametrize("task", RAISING)
async def test_whatever_a_task_raises_is_its_own_failure(engine: Engine, task: str) -> None:
    status = await finished(engine, await submit(engine, task))
    assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
    await _all_workers_live(engine)


async def _all_workers_live(engine: Engine) -> None:
    counted = (await counts(engine)).workers
    assert (counted.replacements, counted.lost_threads) == (0, 0)
    jobs = [await submit(engine, "forever") for _ in range(counted.count)]
    for job in jobs:
        await becomes(engine, job, State.RUNNING)


async def test_an_attempt_that_takes_too_long_is_cancelled_and_its_worker_lives(engine: Engine) -> None:
    # A short timeout is kept beside a long one.
    other = await submit(engine, "forever", timeout=1000)
    status = await finished(engine, await submit(engine, "slow", timeout=0.05))
    assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
    assert 0.05 <= status.ended - status.started < 1
    assert CLEANED
    assert "0.05 s" in await text_of(engine, status)
    await cancel(engine, other)
    await _all_workers_live(engine)


async def test_the_timeout_of_a_submission_comes_before_that_of_its_task_and_that_before_the_setting(
    start: Start,
) -> None:
    short, long = (forever, Options(name="short", timeout=0.05)), (forever, Options(name="long", timeout=1000))
    async with start(short, long, forever, workers=6, jobs={"timeout": 0.05}) as engine:
        stay = [await submit(engine, "short", timeout=1000), await submit(engine, "long")]
        stay.append(await submit(engine, "forever", timeout=1000))
        end = [
            await submit(engine, "long", timeout=0.05),
            await submit(engine, "short"),
            await submit(engine, "forever"),
        ]
        for job in stay:
            await becomes(engine, job, State.RUNNING)
        for job in end:
            assert (await finished(engine, job)).reason == Reason.TIMEOUT
        assert await states(engine, stay) == [State.RUNNING] * 3


async def test_progress_is_seen_while_the_job_runs(engine: Engine) -> None:
    jobs = {"reporting": 41, "reporting_thread": 42}
    for task, percent in jobs.items():
        job = await submit(engine, task)
        await until(partial(_reports, engine, job))
        status = await peek(engine, job)
        assert (status.progress, status.state) == (percent, State.RUNNING)


async def _reports(engine: Engine, job: Status) -> bool:
    return (await peek(engine, job)).progress is not None


async def test_a_context_tells_the_id_that_clients_know_and_the_attempt(engine: Engine) -> None:
    status = await finished(engine, await submit(engine, "which", retries=1))
    assert await text_of(engine, status) == f'["{status.id.decode()}",2]'


async def test_a_delayed_job_starts_when_it_is_due(engine: Engine) -> None:
    await finished(engine, await submit(engine, "double", 1))
    waited, _ = await attempts(engine)
    later = await submit(engine, "double", 1, delay=0.1)
    sooner = await submit(engine, "double", 1, delay=0.05)
    assert later.state == State.SCHEDULED
    assert 50 <= sooner.retry_after_ms <= 2000
    sooner = await finished(engine, sooner)
    later = await finished(engine, later)
    # Times of a store are of whole milliseconds.
    late = [round(job.started - job.submitted - delay, 3) for job, delay in ((sooner, 0.05), (later, 0.1))]
    assert min(late) >= 0
    assert sooner.started < later.started
    # From when they were due, not from when they came.
    assert abs((await attempts(engine))[0].sum - waited.sum - sum(late)) < 0.05


async def test_a_task_may_ask_for_another_attempt_with_its_own_delay(engine: Engine) -> None:
    status = await finished(engine, await submit(engine, "patient", 0.05, retries=2))
    assert (status.state, await text_of(engine, status)) == (State.SUCCEEDED, "3")
    # A multiple of the backoff that holds for others here.
    assert round(status.started - status.submitted, 3) >= 0.1
    status = await finished(engine, await submit(engine, "patient", 0.05, retries=1))
    assert (status.state, status.attempt) == (State.FAILED, 2)


async def test_only_errors_that_are_named_are_tried_again(engine: Engine) -> None:
    assert (await finished(engine, await submit(engine, "picky", "again"))).attempt == 2
    assert (await finished(engine, await submit(engine, "picky", "never"))).attempt == 1


async def test_a_deadline_ends_a_job_wherever_it_stands(engine: Engine) -> None:
    await becomes(engine, await submit(engine, "alone"), State.RUNNING)
    jobs = {
        State.RETRYING: await submit(engine, "patient", 0.15, deadline=0.25, retries=5),
        State.RUNNING: await submit(engine, "forever", deadline=0.25),
        State.SCHEDULED: await submit(engine, "alone", deadline=0.25, delay=60),
        State.QUEUED: await submit(engine, "alone", deadline=0.25),
    }
    for state, job in jobs.items():
        await becomes(engine, job, state)
    for job in jobs.values():
        status = await finished(engine, job)
        assert (status.state, status.reason) == (State.FAILED, Reason.DEADLINE)
        assert status.ended - status.submitted < 1
    assert (await counts(engine)).waiting == 0


async def test_no_attempt_is_waited_for_that_would_come_after_the_deadline(engine: Engine) -> None:
    status = await finished(engine, await submit(engine, "patient", 10, retries=3, deadline=9.9))
    assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.DEADLINE, 1)
    assert status.ended - status.submitted < 2
    status = await finished(engine, await submit(engine, "patient", 0.01, retries=1, deadline=5))
    assert (status.reason, status.attempt) == (Reason.ERROR, 2)
    assert "another attempt" in await text_of(engine, status)


async def test_the_time_of_an_attempt_runs_from_its_beginning(engine: Engine) -> None:
    await submit(engine, "blocks", 0.15)
    jobs = [await submit(engine, "nothing", timeout=0.1) for _ in range(3)]
    for job in jobs:
        assert (await finished(engine, job)).state == State.SUCCEEDED


async def test_jobs_run_by_priority_and_of_one_priority_in_the_order_of_their_submission(start: Start) -> None:
    order = []

    async def record(payload: int) -> None:
        order.append(payload)

    async def limited(payload: int) -> None:
        order.append(payload)

    async with start(forever, record, (limited, Options(max_concurrent=1)), workers=1) as engine:
        blocker = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        jobs = [await submit(engine, "record", n, priority=p) for n, p in enumerate((0, 5, 9, 5))]
        assert [(await peek(engine, job)).position for job in jobs] == [3, 1, 0, 2]
        # Jobs of a task that has a limit stand in the same order.
        jobs += [await submit(engine, ("record", "limited")[n // 2 % 2], n) for n in range(4, 12)]
        await cancel(engine, blocker)
        for job in jobs:
            await finished(engine, job)
        assert order == [2, 1, 3, *range(4, 12), 0]


async def test_a_limited_task_does_not_take_all_workers_nor_keep_others_waiting(start: Start) -> None:
    begun, go = [], asyncio.Event()

    async def limited(payload: int) -> None:
        begun.append(payload)
        await go.wait()

    async with start((limited, Options(max_concurrent=2)), double, workers=4) as engine:
        jobs = [await submit(engine, "limited", number, priority=9) for number in range(8)]
        status = await finished(engine, await submit(engine, "double", 1, priority=0))
        assert status.state == State.SUCCEEDED
        assert begun == [0, 1]
        assert await states(engine, jobs) == [State.RUNNING] * 2 + [State.QUEUED] * 6
        go.set()
        for job in jobs:
            assert (await finished(engine, job)).state == State.SUCCEEDED


class Count:
    """How many attempts are inside at once. A coroutine counts until it is cancelled, a thread until it returns."""

    def __init__(self, in_thread: bool) -> None:
        self.most = 0
        self.in_thread = in_thread
        self._inside: set[Context] = set()
        self._lock = threading.Lock()

    @property
    def now(self) -> int:
        # A cancelled coroutine leaves a turn of the loop later, when the next may be inside already.
        return sum(self.in_thread or not context.cancelled for context in self._inside)

    @contextmanager
    def of(self, context: Context) -> Iterator[None]:
        """Count an attempt while the block runs."""
        with self._lock:
            self._inside.add(context)
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self._inside.remove(context)


def end(how: str, attempt: int) -> None:
    """End a first attempt as ``how`` says, and a second one well."""
    if attempt > 1:
        return
    if how == "error":
        raise ValueError("no")
    if how == "retry":
        raise Retry(0.01)
    if how == "bad retry":
        retry = Retry()
        retry.delay = "soon"  # type: ignore[assignment]
        raise retry


def counted(inside: Count, how: str) -> Callable[..., Any]:
    """Return a function whose first attempts end as ``how`` says, and that stays where the payload is true."""
    stopped = how in ("timeout", "deadline", "cancel")

    async def on_loop(stays: bool, context: Context) -> None:
        with inside.of(context):
            await asyncio.sleep(10 if stopped or stays else 0.005)
            end(how, context.attempt)

    def blocking(stays: bool, context: Context) -> None:
        with inside.of(context):
            begun = time.monotonic()
            while time.monotonic() < begun + (0.1 if stopped else 0.005) or (stays and not context.cancelled):
                time.sleep(0.002)
            end(how, context.attempt)

    return blocking if inside.in_thread else on_loop


@pytest.mark.parametrize("in_thread", [False, True], ids=["loop", "thread"])
async def test_max_concurrent_holds_however_attempts_end(start: Start, in_thread: bool) -> None:
    inside = {
        how: Count(in_thread) for how in ("return", "error", "retry", "bad retry", "timeout", "deadline", "cancel")
    }
    tasks = [
        (
            counted(count, how),
            Options(
                name=how,
                max_concurrent=2,
                retries=1,
                timeout=0.03 if how == "timeout" else None,
                deadline=0.3 if how == "deadline" else None,
            ),
        )
        for how, count in inside.items()
    ]
    async with start(*tasks, workers=28, queue={"size": 100}) as engine:
        jobs = {how: [await submit(engine, how, False) for _ in range(5)] for how in inside}
        for job in jobs["cancel"][:2]:
            await becomes(engine, job, State.RUNNING)
        for job in jobs["cancel"]:
            await cancel(engine, job)
        for job in (job for some in jobs.values() for job in some):
            await finished(engine, job)
        assert max(count.most for count in inside.values()) == 2
        # What each held was given back: as many run at once again, and no more.
        for how in inside:
            jobs[how] = [await submit(engine, how, True, timeout=1000, deadline=1000) for _ in range(3)]
        for *begun, waits in jobs.values():
            for job in begun:
                await becomes(engine, job, State.RUNNING)
            assert (await peek(engine, waits)).state == State.QUEUED
        assert {count.most for count in inside.values()} == {2}


async def test_a_limit_holds_until_a_thread_that_was_given_up_returns(start: Start) -> None:
    inside = {how: Count(in_thread=True) for how in ("cancel", "timeout", "deadline")}
    release = threading.Event()

    def alone(count: Count) -> Callable[[object, Context], None]:
        def blocking(_: object, context: Context) -> None:
            with count.of(context):
                release.wait(UNSTOPPABLE_S)

        return blocking

    tasks = [(alone(count), Options(name=how, max_concurrent=1)) for how, count in inside.items()]
    async with start(*tasks, workers=8) as engine:
        times: dict[str, dict[str, Any]] = {"cancel": {}, "timeout": {"timeout": 0.1}, "deadline": {"deadline": 0.1}}
        firsts = {how: await submit(engine, how, **members) for how, members in times.items()}
        seconds = {how: await submit(engine, how) for how in inside}
        await becomes(engine, firsts["cancel"], State.RUNNING)
        await cancel(engine, firsts["cancel"])
        for job in firsts.values():
            await finished(engine, job)
        await asyncio.sleep(0.02)
        assert await states(engine, [*seconds.values()]) == [State.QUEUED] * 3
        assert [count.now for count in inside.values()] == [1, 1, 1]
        release.set()
        # It is woken by the thread, and by nothing else.
        for job in seconds.values():
            assert (await finished(engine, job)).state == State.SUCCEEDED
        assert {count.most for count in inside.values()} == {1}


async def test_jobs_for_threads_wait_while_all_threads_are_lost(start: Start) -> None:
    release, ran = threading.Event(), []

    def stuck(_: object) -> None:
        release.wait(UNSTOPPABLE_S)

    def work(_: object) -> None:
        ran.append(1)

    async with start(stuck, work, double, workers=1, limits={"lost_threads": 1}) as engine:
        for lost in (1, 2, 3):
            status = await finished(engine, await submit(engine, "stuck", timeout=0.02))
            assert status.reason == Reason.TIMEOUT
            await is_ready(engine, lost == 1)
        job = await submit(engine, "work", timeout=0.02)
        # No other job waits behind it.
        assert (await finished(engine, await submit(engine, "double", 1))).state == State.SUCCEEDED
        await asyncio.sleep(0.05)
        status = await peek(engine, job)
        assert (status.state, status.attempt, ran) == (State.QUEUED, 0, [])
        release.set()
        status = await finished(engine, job)
        assert (status.state, status.attempt, ran) == (State.SUCCEEDED, 1, [1])
        await until(partial(_is_ready, engine))


async def _is_ready(engine: Engine) -> bool:
    return engine.not_ready is None


async def test_jobs_are_found_until_as_many_others_have_ended_as_are_kept(start: Start) -> None:
    async with start(double, retention={"jobs": 2}, queue={"size": 2}) as engine:
        jobs: list[Status] = []
        for number in range(30):
            jobs.append(await submit(engine, "double", number))
            await finished(engine, jobs[-1])
        assert await states(engine, jobs) == [State.EXPIRED] * 28 + [State.SUCCEEDED] * 2
        assert (await peek(engine, jobs[0])).id == jobs[0].id


async def test_jobs_are_found_for_as_long_as_they_are_kept(start: Start) -> None:
    async with start(double, retention={"seconds": 0.1}) as engine:
        job = await finished(engine, await submit(engine, "double", 1))
        assert job.state == State.SUCCEEDED
        begun = time.monotonic()
        await becomes(engine, job, State.EXPIRED)
        assert time.monotonic() - begun < 1
